import json
import stat
from pathlib import Path

import pytest

from openlaunch.client.config import find_address
from openlaunch.client.profiles import Profile, read_config, write_config
from openlaunch.errors import ConfigurationError


@pytest.fixture
def local_server(tmp_path):
    """A data directory with credentials for http://127.0.0.1:8123; gives the environment that names it."""
    (tmp_path / "credentials.json").write_text(
        json.dumps({"url": "http://127.0.0.1:8123", "api_key": "file"})
    )
    return {"OPENLAUNCH_DATA_DIR": str(tmp_path), "OPENLAUNCH_CONFIG_FILE": str(tmp_path / "config.toml")}


@pytest.fixture
def nothing(tmp_path):
    return {"OPENLAUNCH_DATA_DIR": str(tmp_path), "OPENLAUNCH_CONFIG_FILE": str(tmp_path / "config.toml")}


@pytest.fixture
def profiles(local_server, tmp_path):
    """The same, and a config file with two profiles, of which `work` is in use; gives the environment."""
    environ = {**local_server, "OPENLAUNCH_CONFIG_FILE": str(tmp_path / "own" / "config.toml")}
    config = read_config(environ)
    for name in ("home", "work"):
        config = config.with_profile(Profile(name, f"http://{name}:1/path", f"key of {name}", "/some/ca.pem"))
    write_config(config)
    return environ


def test_arguments_go_before_all_else(local_server):
    environ = {**local_server, "OPENLAUNCH_URL": "http://other:1", "OPENLAUNCH_API_KEY": "env"}
    address = find_address("given", "http://host:9/", environ=environ)
    assert (address.url, address.api_key) == ("http://host:9", "given")


def test_openlaunch_variables_go_before_launch_ones(nothing):
    environ = {
        **nothing,
        "OPENLAUNCH_URL": "http://ours:1",
        "OPENLAUNCH_API_KEY": "ours",
        "LAUNCH_ENDPOINT": "http://theirs:1",
        "LAUNCH_API_KEY": "theirs",
    }
    address = find_address(environ=environ)
    assert (address.url, address.api_key, address.source) == ("http://ours:1", "ours", "OPENLAUNCH_URL")


def test_launch_variables_are_next(local_server):
    environ = {**local_server, "LAUNCH_ENDPOINT": "http://theirs:1", "LAUNCH_API_KEY": "theirs"}
    address = find_address(environ=environ)
    assert (address.url, address.api_key) == ("http://theirs:1", "theirs")


def test_the_credentials_file_is_last(local_server):
    address = find_address(environ=local_server)
    assert (address.url, address.api_key) == ("http://127.0.0.1:8123", "file")
    assert address.source.endswith("credentials.json")


def test_a_given_url_takes_a_key_from_the_environment(nothing):
    address = find_address(endpoint="http://host:9", environ={**nothing, "LAUNCH_API_KEY": "env"})
    assert (address.url, address.api_key) == ("http://host:9", "env")


def test_the_key_of_the_file_goes_to_no_other_url(local_server):
    with pytest.raises(ConfigurationError, match="no API key for http://elsewhere:1"):
        find_address(endpoint="http://elsewhere:1", environ=local_server)


def test_the_key_of_the_file_goes_to_its_own_url(local_server):
    assert find_address(endpoint="http://127.0.0.1:8123/", environ=local_server).api_key == "file"


def test_a_launch_key_does_not_go_to_an_openlaunch_url(nothing):
    environ = {**nothing, "OPENLAUNCH_URL": "http://ours:1", "LAUNCH_API_KEY": "theirs"}
    with pytest.raises(ConfigurationError, match="OPENLAUNCH_API_KEY"):
        find_address(environ=environ)


def test_without_anything_all_three_ways_are_named(nothing):
    with pytest.raises(ConfigurationError) as caught:
        find_address(environ=nothing)
    for way in ("endpoint=", "OPENLAUNCH_URL", "LAUNCH_ENDPOINT", "openlaunch serve"):
        assert way in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        *("host:8000", "ftp://host", "http://", "", "http://[::1", "http://host:port", "http://host:99999"),
        *("http://a b", "http://a..b", 8000),
    ],
)
def test_what_is_no_url_is_refused(url, nothing):
    with pytest.raises(ConfigurationError, match="is not a URL"):
        find_address("key", url, environ=nothing)


@pytest.mark.parametrize(
    ("given", "url"),
    [
        (" http://host:1\n", "http://host:1"),
        ("http://b\u00fccher.example/mod\u00e8le", "http://xn--bcher-kva.example/mod%C3%A8le"),
        ("https://[::1]:8443/", "https://[::1]:8443"),
    ],
)
def test_a_url_is_made_sendable(given, url, nothing):
    assert find_address("key", given, keep_path=True, environ=nothing).url == url


@pytest.mark.parametrize(
    "key", ["secret\n", " secret", "se:cret", "se\x00cret", "secret\udce9", 5, b"secret"]
)
def test_a_key_that_cannot_be_sent_is_refused_and_not_shown(key, nothing):
    with pytest.raises(ConfigurationError, match="the API key") as caught:
        find_address(key, "http://host", environ=nothing)
    assert "cret" not in str(caught.value)


def test_a_path_needs_the_word_for_it(nothing):
    with pytest.raises(ConfigurationError, match="use_path_with_custom_endpoint"):
        find_address("key", "http://host/launch", environ=nothing)
    assert (
        find_address("key", "http://host/launch/", keep_path=True, environ=nothing).url
        == "http://host/launch"
    )


def test_a_broken_credentials_file_is_named(tmp_path):
    (tmp_path / "credentials.json").write_text("{}")
    with pytest.raises(ConfigurationError, match=r"credentials\.json can't be read"):
        find_address(environ={"OPENLAUNCH_DATA_DIR": str(tmp_path)})


def test_the_key_is_not_shown():
    assert "secret" not in repr(find_address("secret", "http://host:1"))


def found(environ, **arguments):
    address = find_address(environ=environ, **arguments)
    return address.url, address.api_key


def test_the_profile_in_use_goes_before_the_credentials_file(profiles):
    assert found(profiles) == ("http://work:1/path", "key of work")
    assert find_address(environ=profiles).ca_file == "/some/ca.pem"
    source = find_address(environ=profiles).source
    assert (source, find_address(environ=profiles).key_source) == (source, source)
    assert source == f"the profile work in {profiles['OPENLAUNCH_CONFIG_FILE']}"


def test_the_environment_goes_before_the_profile_in_use(profiles):
    assert found({**profiles, "OPENLAUNCH_PROFILE": "home"}) == ("http://home:1/path", "key of home")
    assert found({**profiles, "OPENLAUNCH_API_KEY": "env"}) == ("http://work:1/path", "env")
    url = {"OPENLAUNCH_URL": "http://env:1", "OPENLAUNCH_API_KEY": "env", "OPENLAUNCH_PROFILE": "home"}
    assert found({**profiles, **url}) == ("http://env:1", "env")


def test_a_profile_that_is_given_goes_before_the_environment(profiles):
    environ = {**profiles, "OPENLAUNCH_URL": "http://env:1", "OPENLAUNCH_PROFILE": "work"}
    assert found(environ, profile="home") == ("http://home:1/path", "key of home")
    assert found(environ, profile="home", api_key="given") == ("http://home:1/path", "given")
    with pytest.raises(ConfigurationError, match="give one of them"):
        find_address(endpoint="http://x", profile="home", environ=environ)


def test_the_key_of_a_profile_goes_to_its_own_url_alone(profiles):
    assert found(profiles, endpoint="http://home:1/path", keep_path=True)[1] == "key of home"
    assert found({**profiles, "OPENLAUNCH_URL": "http://home:1/path"})[1] == "key of home"
    with pytest.raises(ConfigurationError, match="openlaunch login http://other:1"):
        find_address(endpoint="http://other:1", environ=profiles)


def test_a_profile_that_is_not_there_is_named_with_those_that_are(profiles):
    with pytest.raises(ConfigurationError, match="has no profile 'wok': it has work; `openlaunch login URL"):
        find_address(profile="wok", environ=profiles)


def test_the_config_file_is_for_its_owner_alone_and_shows_no_key_in_errors(profiles):
    path = Path(profiles["OPENLAUNCH_CONFIG_FILE"])
    path.chmod(0o644)
    write_config(read_config(profiles).without("home"))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert "key of" not in repr(read_config(profiles))


def test_without_the_profile_in_use_the_local_server_is_found_again(profiles):
    write_config(read_config(profiles).without("work"))
    assert found(profiles) == ("http://127.0.0.1:8123", "file")


def test_whatever_a_profile_has_in_it_is_read_as_it_was_written(tmp_path):
    environ = {"OPENLAUNCH_CONFIG_FILE": str(tmp_path / "config.toml")}
    odd = Profile('a "b" . \\ é \x7f \n ☃', "http://x", "\t'k'\x00", None)
    write_config(read_config(environ).with_profile(odd))
    assert read_config(environ).profile(odd.name) == odd


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("profile = ", "can't be read"),
        ("profil = 'x'", "profil is unknown"),
        ("profile = 1", "profile is a name"),
        ("profile = 'x'", "has no profile 'x'"),
        ("[profiles.x]\nurl = 'http://x'", r"\[profiles.x\]: api_key is missing"),
        (
            "[profiles.x]\nurl = 'u'\napi_key = 'secret'\ncafile = ''",
            "cafile is unknown; url, api_key, ca_file",
        ),
        ("[profiles.x]\nurl = 5\napi_key = 'secret'", "is not a table of texts"),
        ("[profiles]\nx = 'secret'", "is not a table of texts"),
    ],
)
def test_a_config_file_that_is_wrong_says_where(tmp_path, text, said):
    (tmp_path / "config.toml").write_text(text)
    with pytest.raises(ConfigurationError, match=said) as caught:
        read_config({"OPENLAUNCH_CONFIG_FILE": str(tmp_path / "config.toml")})
    assert "config.toml" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_several_servers_are_named_with_commas_between(nothing):
    address = find_address("key", "http://one:1/, https://two:2", environ=nothing)
    assert address.url == "http://one:1,https://two:2"
    assert [each.url for each in address.each()] == ["http://one:1", "https://two:2"]
    assert {each.api_key for each in address.each()} == {"key"}


@pytest.mark.parametrize(
    "urls", ["http://one:1,two:2", "http://one:1,", "http://one:1,https://", ",http://one:1"]
)
def test_each_of_several_servers_has_to_be_a_url(nothing, urls):
    with pytest.raises(ConfigurationError, match="is not a URL such as"):
        find_address("key", urls, environ=nothing)

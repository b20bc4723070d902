import json

import pytest

from openlaunch.client.config import find_address
from openlaunch.errors import ConfigurationError


@pytest.fixture
def local_server(tmp_path):
    """A data directory with credentials for http://127.0.0.1:8123; gives the environment that names it."""
    (tmp_path / "credentials.json").write_text(
        json.dumps({"url": "http://127.0.0.1:8123", "api_key": "file"})
    )
    return {"OPENLAUNCH_DATA_DIR": str(tmp_path)}


@pytest.fixture
def nothing(tmp_path):
    return {"OPENLAUNCH_DATA_DIR": str(tmp_path)}


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


@pytest.mark.parametrize("url", ["host:8000", "ftp://host", "http://", ""])
def test_what_is_no_url_is_refused(url, nothing):
    with pytest.raises(ConfigurationError, match="is not a URL"):
        find_address("key", url, environ=nothing)


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

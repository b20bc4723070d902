"""Settings of the server: options, then environment variables, then a file."""

import pytest

from openlaunch.cli.server_settings import read_settings
from openlaunch.errors import ConfigurationError


@pytest.fixture
def file(tmp_path, monkeypatch):
    for name in ("PORT", "HOST", "DRAIN_SECONDS"):
        monkeypatch.delenv(f"OPENLAUNCH_{name}", raising=False)
    path = tmp_path / "server.toml"
    path.write_text('port = 1111\nhost = "0.0.0.0"\ndrain_seconds = 5\n')
    return path


def test_options_go_before_variables_and_those_before_the_file(file, monkeypatch):
    monkeypatch.setenv("OPENLAUNCH_PORT", "2222")
    monkeypatch.setenv("OPENLAUNCH_HOST", "127.0.0.2")
    found = read_settings({"port": 3333}, file)
    assert (found.port, found.host, found.drain_seconds) == (3333, "127.0.0.2", 5)


def test_without_a_file_the_defaults_stay(file):
    assert read_settings({}, None).port == 8000


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("prot = 1", "has 'prot', and there is no such setting: did you mean port?"),
        ("xyz = 1", "has 'xyz', and there is no such setting: `openlaunch docs settings` lists them"),
        ("port = 99999", "server.toml: port is 99999: "),
        ('api_key = "tooshort"', "server.toml: api_key has 8 characters, and at least 16 are needed"),
        ("port = ", "server.toml can't be read: "),
        ('public_url = "a/b"', "public_url is 'a/b': a URL such as https://models.example.org is needed"),
        (
            'torch_backend = "A B"',
            "torch_backend is 'A B': what `uv pip install --torch-backend` takes is needed",
        ),
        (
            'extra_index_urls = "me:tooshort@index"',
            "server.toml: extra_index_urls: URLs, or folders",
        ),
    ],
)
def test_a_file_that_is_wrong_is_named_with_the_setting(file, text, said):
    file.write_text(text)
    with pytest.raises(ConfigurationError) as caught:
        read_settings({}, file)
    assert said in str(caught.value)
    assert "tooshort" not in str(caught.value)


def test_an_option_and_a_variable_that_are_wrong_are_named_as_they_were_given(file, monkeypatch):
    monkeypatch.setenv("OPENLAUNCH_DRAIN_SECONDS", "-1")
    with pytest.raises(ConfigurationError) as caught:
        read_settings({"port": 99999}, file)
    assert "--port is 99999: " in str(caught.value)
    assert "OPENLAUNCH_DRAIN_SECONDS is '-1': " in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ConfigurationError, match=r"--config .*nothing\.toml can't be read"):
        read_settings({}, tmp_path / "nothing.toml")

"""Variables that nothing reads are named, with what was probably meant."""

import pytest

from openlaunch.cli.variables import misspelled, unknown

SETTINGS = ("port", "max_body_bytes", "isolation")


@pytest.mark.parametrize(
    ("name", "meant"),
    [("OPENLAUNCH_PROT", "OPENLAUNCH_PORT"), ("openlaunch_isolatoin", "OPENLAUNCH_ISOLATION")],
)
def test_a_misspelled_setting_is_told_with_the_right_one(name, meant):
    (sentence,) = unknown({name: "1"}, SETTINGS)
    assert sentence == f"{name.upper()} is set, and there is no such setting: did you mean {meant}?"


def test_one_that_is_like_none_is_told_with_where_they_are_listed():
    (sentence,) = unknown({"OPENLAUNCH_ZZZ": "1"}, SETTINGS)
    assert "openlaunch docs settings" in sentence


def test_what_is_read_is_not_told():
    environ = {"OPENLAUNCH_PORT": "1", "openlaunch_url": "x", "OPENLAUNCH_WORKER_TOKEN": "x", "HOME": "/"}
    assert unknown(environ, SETTINGS) == []


def test_the_client_tells_what_is_almost_its_own_and_nothing_of_the_servers():
    environ = {"OPENLAUNCH_API_KEYS": "x", "OPENLAUNCH_PORT": "1", "OPENLAUNCH_CALLBACK_CA_FILE": "x"}
    (sentence,) = misspelled(environ)
    assert "did you mean OPENLAUNCH_API_KEY?" in sentence


@pytest.mark.parametrize(("name", "meant"), [("SERVER", "URL"), ("TOKEN", "API_KEY")])
def test_the_client_tells_what_its_own_is_called(name, meant):
    (sentence,) = misspelled({f"OPENLAUNCH_{name}": "x"})
    assert f"did you mean OPENLAUNCH_{meant}?" in sentence

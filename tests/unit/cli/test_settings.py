"""The options for an endpoint's settings."""

import inspect

import pytest
import typer

from openlaunch.cli import batch_jobs, deploy, endpoints
from openlaunch.cli.settings import REFUSED, given, with_settings
from openlaunch.wire.endpoint_settings import EndpointSettings
from openlaunch.wire.keywords import KEYWORD_HELP


def options_of(command):
    """The help of each of a command's options that is a setting."""
    found = {}
    for name, parameter in inspect.signature(command).parameters.items():
        if name in EndpointSettings.model_fields:
            (option,) = parameter.annotation.__metadata__
            found[name] = option.help
    return found


@pytest.mark.parametrize("command", [endpoints.create_endpoint, endpoints.edit_endpoint, deploy.deploy])
def test_every_keyword_is_an_option(command):
    assert set(options_of(command)) == set(KEYWORD_HELP) - set(REFUSED)


def test_a_command_may_have_some_settings_with_other_defaults():
    options = options_of(batch_jobs.run_batch_job)
    assert "[default: 10]" in options["max_workers"]
    assert "timeout_seconds" not in options


def test_a_command_that_changes_settings_names_no_default():
    assert not [text for text in options_of(endpoints.edit_endpoint).values() if "default" in text.lower()]


def test_what_was_not_given_is_left_out():
    assert given({"cpus": None, "labels": [], "gpus": 0}) == {"gpus": 0}


def test_labels_are_pairs():
    assert given({"labels": ["a=b=c", "d="]}) == {"labels": {"a": "b=c", "d": ""}}
    with pytest.raises(typer.BadParameter, match="'a' is not KEY=VALUE"):
        given({"labels": ["a"]})


def test_a_command_gets_its_settings_as_keywords():
    @with_settings("cpus")
    def command(name: str, wait: bool = True, **settings: object) -> object:
        return settings

    assert list(inspect.signature(command).parameters) == ["name", "wait", "cpus"]
    assert command("digits", cpus="2") == {"cpus": "2"}

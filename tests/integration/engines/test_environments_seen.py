"""Environments and bundles: who uses them, how large they are, and how they go."""

import json

import pytest
from server_driver import SMALL, eventually

from openlaunch import LaunchClient
from openlaunch.cli.app import run
from openlaunch.errors import Conflict, NotFound


def first():
    return 1


def second():
    return 2


@pytest.fixture(scope="module")
def endpoint(client):
    return client.deploy(first, name="uses-it", max_workers=1, **SMALL)


def test_an_environment_is_shown_with_its_size_and_who_uses_it(client, endpoint):
    (shown,) = client.list_environments()
    assert shown.used_by == ["uses-it"]
    assert shown.bytes > 10_000
    assert (shown.owner, shown.requirements) == ("", [])
    assert client.get_environment(shown.id) == shown
    with pytest.raises(NotFound):
        client.get_environment("nothing")


def test_the_command_shows_the_same(client, endpoint, capsys, monkeypatch):
    monkeypatch.setenv("OPENLAUNCH_URL", client.server.url)
    monkeypatch.setenv("OPENLAUNCH_API_KEY", client.server.api_key)
    assert run(["environments", "list", "--json"]) == 0
    (listed,) = json.loads(capsys.readouterr().out)
    assert listed["used_by"] == ["uses-it"]
    assert run(["environments", "show", listed["id"]]) == 0
    assert "used by       uses-it" in capsys.readouterr().out
    assert run(["environments", "prune", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"removed": []}


def test_an_owner_sees_their_own_and_an_admin_all(client, endpoint):
    key = client.create_api_key("somebody", "user").api_key
    with LaunchClient(key, client.server.url, max_retries=0) as theirs:
        assert theirs.list_environments() == []
        deployed = theirs.deploy(first, name="theirs", max_workers=1, **SMALL)
        (shown,) = theirs.list_environments()
        assert shown.used_by == ["theirs"]
        assert client.list_environments()[0].used_by == ["uses-it"]
        theirs.delete_model_endpoint(deployed)
        eventually(lambda: theirs.list_environments() == [])


def test_a_bundle_in_use_stays_and_the_refusal_names_who_uses_it(client, endpoint):
    bundle_id = endpoint.model_endpoint.bundle_id
    with pytest.raises(Conflict, match=r"is used by the endpoint uses-it: delete these endpoints"):
        client.delete_model_bundle(bundle_id)
    client.deploy(second, name="uses-it", max_workers=1, **SMALL)
    client.delete_model_bundle(bundle_id)
    with pytest.raises(NotFound):
        client.get_model_bundle_v2(bundle_id)

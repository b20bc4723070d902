"""Environments and bundles: who uses them, how large they are, and how they go."""

import json
import re

import pytest
from hostile_package import serving
from server_driver import SMALL, eventually, running

from openlaunch import LaunchClient
from openlaunch.cli.app import run
from openlaunch.errors import Conflict, NotFound


def first():
    return 1


def second():
    return 2


@pytest.fixture(scope="module")
def client():
    """A client of a server that has no environment of other modules."""
    with running() as client:
        yield client


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


def test_what_is_built_is_shown_and_for_how_long(client, tmp_path, capsys, monkeypatch):
    go = tmp_path / "go"
    script = f"import time\ndef run():\n    while not os.path.exists({str(go)!r}):\n        time.sleep(0.05)"
    with serving(script) as requirement:
        endpoint = client.deploy(first, name="built", requirements=[requirement], wait=False, **SMALL)

        def reason():
            return endpoint.refresh().model_endpoint.status_reason or ""

        eventually(lambda: reason().endswith("s so far: building hostile"))
        eventually(lambda: re.search(", for [1-9][0-9]* s so far", reason()))
        assert "so far: building hostile" in client.explain_endpoint("built").reasons[0].message
        reasons = [each.model_endpoint.status_reason or "" for each in client.list_model_endpoints()]
        assert any("so far: building hostile" in each for each in reasons)
        monkeypatch.setenv("OPENLAUNCH_URL", client.server.url)
        monkeypatch.setenv("OPENLAUNCH_API_KEY", client.server.api_key)
        assert run(["endpoints", "get", "built"]) == 0
        assert "so far: building hostile" in capsys.readouterr().out
        go.touch()
        endpoint.wait_until_ready(60)
    assert endpoint.model_endpoint.status_reason is None


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
    assert [each.version for each in client.list_model_bundles_v2("uses-it").model_bundles] == [2, 1]
    client.delete_model_bundle(bundle_id)
    with pytest.raises(NotFound):
        client.get_model_bundle_v2(bundle_id)

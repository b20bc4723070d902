"""What a server says of its disk, over HTTP and on a terminal."""

import json
import os
import subprocess
import sys
from pathlib import Path

from server_driver import DEADLINE, SMALL, args, running

from openlaunch.server.operations.storage import Kind, _measured
from openlaunch.trash import delete


def command(client, *arguments, **environ):
    return subprocess.run(
        [sys.executable, "-m", "openlaunch.cli", *arguments],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        env={
            **os.environ,
            "OPENLAUNCH_URL": client.server.url,
            "OPENLAUNCH_API_KEY": client.server.api_key,
            **environ,
        },
    )


def test_each_kind_is_shown_with_its_size_and_with_what_goes_when(tmp_path):
    with running(tmp_path / "data") as client:
        endpoint = client.deploy(lambda x: x, name="echo", endpoint_type="async", **SMALL)
        endpoint.predict(args(x="x" * 400_000)).get(DEADLINE)
        kinds = {kind.kind: kind for kind in client.get_storage().kinds}
        for name in ("database", "bundles", "results", "environments", "logs"):
            assert kinds[name].bytes > 0, name
            assert kinds[name].count > 0, name
        assert kinds["results"].bytes >= 400_000
        assert kinds["results"].goes == "24 hours after their task ended"

        shown = command(client, "storage")
        assert shown.returncode == 0, shown.stderr
        assert shown.stdout.splitlines()[0].split() == [
            "KIND",
            "SIZE",
            "FILES",
            "WHAT",
            "GOES,",
            "AND",
            "WHEN",
        ]
        assert max(map(len, shown.stdout.splitlines())) <= 80
        assert "on the disk are free" in shown.stderr
        whole = json.loads(command(client, "storage", "--json").stdout)
        assert {kind["kind"] for kind in whole["kinds"]} == set(kinds)


def test_a_deep_folder_of_an_owners_is_added_up_too(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for _ in range(1500):  # more levels than a process may have stack frames for
        Path("d").mkdir()
        os.chdir("d")
    Path("file").write_bytes(b"x" * 10_000)
    measured = _measured(Kind("deep", (tmp_path,), "never"))
    assert (measured.count, measured.bytes >= 10_000) == (1, True)
    monkeypatch.undo()
    delete(tmp_path / "d")

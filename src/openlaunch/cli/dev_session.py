"""What `openlaunch dev` does from its start to Ctrl-C."""

import json
import shlex
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import typer

from openlaunch.cli.deploy import sample_args
from openlaunch.cli.dev_served import Served
from openlaunch.cli.output import note
from openlaunch.cli.targets import load_module, named, own_functions
from openlaunch.cli.user_errors import print_traceback
from openlaunch.client.client import LaunchClient
from openlaunch.client.local import LocalServer
from openlaunch.errors import OpenlaunchError
from openlaunch_worker.reloading import Broken, Modules

LOOK_SECONDS = 0.1
_SHOWN = ("/e/", "/v1/sync-tasks", "/v1/async-tasks", "/v1/streaming-tasks", "/v1/chat", "/v1/completions")
"""How the paths of requests begin that are shown: those for the functions."""
_NOTED = "openlaunch server: "
"""How lines begin that the server adds to a worker's log, such as the traceback of a request."""


class Session:
    """Serves the functions of a file while it is edited."""

    def __init__(self, target: str, load: str | None, settings: dict[str, Any]) -> None:
        self._place, _, self._name = target.partition(":")
        self._load, self._settings = load, settings
        self._served: dict[str, Served] = {}
        self._client: LaunchClient
        self._printing = threading.Lock()

    def run(self) -> None:
        """Serve until Ctrl-C."""
        module = self._first_import()
        modules = Modules()
        settings = {"isolation": "off", "access_log": "all", "log_format": "json"}
        with LocalServer(settings=settings) as server, LaunchClient(server.api_key, server.url) as client:
            self._client = client
            self._start(self._show_requests, server.data_dir / "server.log")
            self._deploy(module)
            self._greet(server)
            while True:
                time.sleep(LOOK_SECONDS)
                self._follow(modules, module)

    def _first_import(self) -> ModuleType:
        """Import the file; where that fails, again once it was saved."""
        while True:
            path = Path(self._place)
            before = path.stat().st_mtime_ns if path.is_file() else None
            try:
                module = load_module(self._place)
                for name in (self._load, self._name):
                    if name:
                        named(module, self._place, name)
                return module
            except typer.BadParameter as error:
                if error.__cause__ is None or before is None:
                    raise
                print_traceback(error.__cause__)
                note(f"error: {error.message}\nwaiting until {self._place} is saved again …")
            while not path.is_file() or path.stat().st_mtime_ns == before:
                time.sleep(LOOK_SECONDS)

    def _follow(self, modules: Modules, module: ModuleType) -> None:
        """Take over what was saved since the last look."""
        try:
            changed = modules.refresh()
        except Broken as broken:
            with self._printing:
                print_traceback(broken.error)
            self._say("not reloaded: the functions of before are served until the file is mended and saved")
            return
        if changed is None:
            return
        if not changed:
            self._say("saved; nothing of the code has changed")
        elif self._load is None:
            self._say("reloaded")
        else:
            again = (module.__name__, self._load) in changed
            self._say(f"reloaded; the model {'is loaded again' if again else 'stays loaded'}")
        self._deploy(module)

    def _deploy(self, module: ModuleType) -> None:
        names = [self._name] if self._name else [n for n in own_functions(module) if n != self._load]
        for gone in self._served.keys() - set(names):
            self._served.pop(gone).delete(self._client)
            self._say(f"{gone} is gone")
        for name in names:
            served = self._served.setdefault(name, Served(module, name, self._load, self._settings))
            try:
                if served.deploy(self._client, self._show_output_of):
                    self._say(f"{name}({served.takes}) is served")
            except (OpenlaunchError, TypeError, AttributeError) as error:
                self._say(f"{name} is not served: {error}")

    def _greet(self, server: LocalServer) -> None:
        link = self._client.make_page_link()
        # Printed as they are, whole, so that a terminal's user can copy or click them.
        print(f"try it in a browser, this link signs in once:\n  {server.url}/#link={link}")
        for served in list(self._served.values())[:1]:
            args = shlex.quote(sample_args(served.function, skip=self._load is not None))
            print(f"or with curl:\n  curl -u {server.api_key}: {server.url}/e/{served.endpoint} -d {args}")
        print(f"each save of {self._place}, or of what it imports, is followed; Ctrl-C ends all", flush=True)

    def _show_requests(self, file: Path) -> None:
        for line in _lines_of(file):
            try:
                request = json.loads(line)
            except ValueError:
                continue  # what something else has printed
            if request.get("method") == "POST" and str(request.get("path")).startswith(_SHOWN):
                self._say(f"{request['method']} {request['path']} {request['status']} {request['ms']:g} ms")

    def _show_output_of(self, endpoint: str) -> None:
        if endpoint not in (thread.name for thread in threading.enumerate()):
            self._start(self._show_output, endpoint, name=endpoint)

    def _show_output(self, endpoint: str) -> None:
        with suppress(OpenlaunchError), self._client.follow_endpoint_logs(endpoint) as lines:
            for line in lines:
                with self._printing:
                    print(line.line.removeprefix(_NOTED), flush=True)

    def _say(self, text: str) -> None:
        with self._printing:
            note(f"{time.strftime('%H:%M:%S')} {text}")

    def _start(self, work: Any, *args: Any, name: str | None = None) -> None:
        threading.Thread(target=partial(work, *args), name=name, daemon=True).start()


def _lines_of(file: Path) -> Iterator[str]:
    """Yield the lines of a file as it grows."""
    with file.open() as text:
        begun = ""
        while True:
            if not (more := text.read()):
                time.sleep(LOOK_SECONDS)
                continue
            *whole, begun = (begun + more).split("\n")
            yield from whole

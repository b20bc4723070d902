"""The caches of owners on this machine: a folder for each, which the owner's workers and downloads alone see."""

import hashlib
import json
import os
import secrets
import sys
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from openlaunch.engines.base import EngineError
from openlaunch.engines.build_watch import bytes_of
from openlaunch.engines.commands import Log, quiet, run_command
from openlaunch.engines.environ import scrub
from openlaunch.engines.sandbox import Sandboxes, give, make_folder
from openlaunch.trash import discard
from openlaunch.turns import Turns
from openlaunch.wire.quantities import size_text
from openlaunch_worker.module_command import RUNTIME, module_command
from openlaunch_worker.prefetch import marker_of
from openlaunch_worker.prefetch_urls import source_of

DOWNLOADS = 4
"""Downloads at a time, up to half of them of one owner."""
_OF_DOWNLOADS = ("HF_TOKEN", "HF_ENDPOINT", "AWS_", "GOOGLE_STORAGE_", "AZURE_STORAGE_")
"""How the variables of an endpoint begin by which its downloads find and open what they fetch."""


class ModelCaches:
    """Folders below `root`, each bounded by `max_bytes`, where 0 sets no bound."""

    def __init__(self, root: Path, max_bytes: int, sandboxes: Sandboxes | None) -> None:
        self.root = root
        self._max_bytes = max_bytes
        self._sandboxes = sandboxes
        self._turns = Turns(DOWNLOADS)
        self._used: dict[str, tuple[str, tuple[str, ...]]] = {}
        """The owners of running workers, and what these have prefetched."""

    def folder(self, owner: str) -> Path:
        """Return an owner's folder, which is made where it is not there."""
        path = self.root / f"owner-{hashlib.sha256(owner.encode()).hexdigest()[:20]}"
        if not path.exists():
            self.root.mkdir(exist_ok=True, mode=0o711)
            self.root.chmod(0o711)  # the way to what is the workers', who may be another user
            path.mkdir(mode=0o700)
            give(path)
        return path

    def begin_use(self, worker_id: str, owner: str, urls: tuple[str, ...]) -> None:
        """Keep what a worker has prefetched. Raise `EngineError` if it is not there any longer."""
        folder = self.folder(owner)
        for url in urls:
            if not os.path.lexists(marker_of(folder, source_of(url))):
                raise EngineError(f"{source_of(url).place} is not in the cache, and is downloaded again")
        self._used[worker_id] = owner, urls

    def end_use(self, worker_id: str) -> None:
        self._used.pop(worker_id, None)

    async def prefetch(
        self,
        owner: str,
        urls: Collection[str],
        environ: Mapping[str, str],
        said: Log,
        does: Callable[[str], None],
    ) -> None:
        """Download what is missing in a process of its own. Raise `EngineError` where that fails."""
        if not urls:
            return

        def take(line: str) -> None:
            step = _step(line)
            said(line) if step is None else does(step)

        wanted = {name: v for name, v in environ.items() if name.startswith(_OF_DOWNLOADS)}
        async with self._turns.of(owner):
            lines = await self._run(owner, "prefetch", urls, wanted, take)
        if lines is not None:
            raise EngineError(lines)
        await self.trim(owner, said, keep=urls)

    async def trim_used(self) -> None:
        """Bring the caches of those who have running workers within their bound."""
        for owner in {owner for owner, _ in self._used.values()}:
            await self.trim(owner)

    async def trim(self, owner: str, said: Log = quiet, keep: Collection[str] = ()) -> None:
        """Delete what was used least recently of a cache that is over its bound; what workers use stays."""
        if not self._max_bytes or await bytes_of(self.folder(owner)) <= self._max_bytes:
            return
        used = {url for its, urls in self._used.values() if its == owner for url in urls}
        await self._run(owner, "cache_trimming", sorted({*used, *keep}), {}, said)

    async def _run(
        self, owner: str, module: str, urls: Collection[str], environ: Mapping[str, str], take: Log
    ) -> str | None:
        """Run a module of the worker runtime in a sandbox that sees this cache alone; return why it failed, if so."""
        folder = self.folder(owner)
        python, *code = module_command(sys.executable, f"openlaunch_worker.{module}", RUNTIME)
        scratch = self.root / f"scratch-{secrets.token_hex(8)}"
        listed = scratch / "urls"
        command = [python, "-I", "-S", *code, str(folder), str(self._max_bytes), str(listed)]
        try:
            make_folder(scratch)
            listed.touch(mode=0o600)
            listed.write_text(json.dumps(list(urls)))
            give(listed)
            if self._sandboxes is not None:
                seen = (RUNTIME, listed)
                command = self._sandboxes.command(command, scratch, readable=seen, writable=(folder,))
            env = {**scrub(os.environ), **environ}
            done = await run_command(command, env=env, timeout=None, log=take)
        finally:
            discard(scratch)
        return (
            None if done.code == 0 else "\n".join(done.lines[-3:]) or f"the download ended with {done.code}"
        )


def _step(line: str) -> str | None:
    """Return a line of progress in words; None for another line."""
    try:
        news = json.loads(line)
        url, done, total = str(news["url"]), int(news["done"]), int(news["total"])
    except (ValueError, KeyError, TypeError):
        return None
    of = f" of {size_text(total)}" if total > done else ""
    return f"downloading {url}, {size_text(done)}{of}"


CACHE_FOLDERS = {"HF_HOME": "huggingface", "TORCH_HOME": "torch", "XDG_CACHE_HOME": "xdg"}


def variables(folder: Path) -> dict[str, str]:
    """Return the variables by which a worker and its libraries find a cache."""
    within = {name: str(folder / below) for name, below in CACHE_FOLDERS.items()}
    return {"OPENLAUNCH_CACHE": str(folder), **within}

"""Repositories of a hub that speaks as Hugging Face's does, put where its own libraries look for them."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import quote

from openlaunch_worker.prefetch_urls import Source
from openlaunch_worker.resuming import Download, Failed, missing, read_document

HUB: Final = "https://huggingface.co"


class Progress(Protocol):
    """Hears of bytes."""

    def expect(self, size: int, to_come: int = 0) -> None: ...
    def came(self, size: int) -> None: ...


def fetch(cache: Path, source: Source, progress: Progress) -> None:
    """Have the files of a repository at a revision, those below `source.path` if that is set."""
    hub = os.environ.get("HF_ENDPOINT", HUB).rstrip("/")
    repository = cache / "huggingface" / "hub" / f"models--{source.at.replace('/', '--')}"
    link = cache / source.place.removesuffix(f"/{source.path}" if source.path else "")
    about = f"{hub}/api/models/{source.at}/revision/{quote(source.revision, safe='')}?blobs=true"
    try:
        found = json.loads(read_document(about, _headers))
        commit, files = str(found["sha"]), [_file(each) for each in found["siblings"]]
    except Failed as error:
        if (cache / source.place).exists() and "answer is 4" not in str(error):
            return  # the hub can't be reached, and what it had is here
        raise
    except (ValueError, KeyError, TypeError) as error:
        raise Failed(f"{hub} does not answer as a hub does: {error!r}") from None
    wanted = [each for each in files if _is_wanted(each[0], source.path)]
    if not wanted:
        raise Failed(f"{source.at} has no {source.path or 'files'} at {source.revision}")
    snapshot = repository / "snapshots" / commit
    to_come = sum(missing(snapshot / name, size) for name, size, _ in wanted)
    progress.expect(sum(size for _, size, _ in wanted), to_come)
    for name, size, digest in wanted:
        target = snapshot / name
        if target.exists():
            progress.came(size)
            continue
        url = f"{hub}/{source.at}/resolve/{commit}/{quote(name)}"
        Download(url, target, _headers, progress.came).run(digest)
    _name(repository / "refs" / source.revision, commit)
    _link(link, snapshot)


def _headers() -> Mapping[str, str]:
    token = os.environ.get("HF_TOKEN")
    return {"Authorization": f"Bearer {token}"} if token else {}


def _file(entry: dict[str, Any]) -> tuple[str, int, str | None]:
    """Return a file's name, its bytes, and its SHA-256 where the hub knows it."""
    name = str(entry["rfilename"])
    if any(part in ("", ".", "..") for part in name.split("/")):
        raise ValueError(f"a file is named {name[:80]!r}")
    return name, int(entry.get("size") or 0), (entry.get("lfs") or {}).get("sha256")


def _is_wanted(name: str, path: str) -> bool:
    return not path or name == path or name.startswith(f"{path}/")


def _name(file: Path, commit: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(commit)


def _link(link: Path, snapshot: Path) -> None:
    """Have a link to the snapshot, whatever was there."""
    link.parent.mkdir(parents=True, exist_ok=True)
    half = link.with_name(f".openlaunch-{link.name}")
    half.unlink(missing_ok=True)
    half.symlink_to(os.path.relpath(snapshot, link.parent))
    half.replace(link)

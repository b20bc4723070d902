"""Where the records and the artifacts of a data directory are, if not in it."""

import os
from pathlib import Path

from openlaunch.errors import ConfigurationError
from openlaunch.server.operations.private_file import write_private


class Places:
    """Notes in the directory which database and which bucket are its own, so that no others are used by mistake."""

    def __init__(self, root: Path, database: Path, artifacts: Path) -> None:
        self._root = root
        self._database, self._artifacts = database, artifacts
        self._bucket = root / "artifacts-url"
        self._elsewhere = root / "records-elsewhere"

    @property
    def records(self) -> str | None:
        """The database that has the records of this directory, if they are not in its own."""
        return self._elsewhere.read_text().strip() if self._elsewhere.exists() else None

    def use_records(self, place: str | None) -> None:
        """Note which database has the records, None for the directory's own; raise ConfigurationError for another.

        What a server finds here that its records do not name, it deletes in time.
        """
        elsewhere = self.records
        if place is None and elsewhere is not None:
            raise ConfigurationError(
                f"the records of the data directory {self._root} are in the {elsewhere}: name that with --store or "
                "OPENLAUNCH_STORE, or another directory with --data-dir"
            )
        if place is not None and self._database.exists():
            raise ConfigurationError(
                f"the data directory {self._root} has records of its own, in {self._database.name}: name another "
                "with --data-dir, or move that file away if its records are not needed"
            )
        if place is not None:
            write_private(self._elsewhere, place + "\n")

    def move_records_to(self, place: str) -> None:
        """Note that a database has the records from now on, and put the file that had them aside."""
        write_private(self._elsewhere, place + "\n")
        for suffix in ("-wal", "-shm", ""):
            path = self._root / f"{self._database.name}{suffix}"
            if path.exists():
                path.replace(self._root / f"moved-{path.name}")

    def bring_records_back(self) -> None:
        """Note that the directory's own database has the records from now on."""
        self._elsewhere.unlink(missing_ok=True)

    @property
    def bucket(self) -> str:
        """The URL of the bucket in which the artifacts are; empty: they are in the folder."""
        return self._bucket.read_text().strip() if self._bucket.exists() else ""

    @bucket.setter
    def bucket(self, url: str) -> None:
        if url:
            write_private(self._bucket, url + "\n")
        else:
            self._bucket.unlink(missing_ok=True)

    def check_bucket(self, url: str) -> None:
        """Raise ConfigurationError when the artifacts are not in this bucket, or where it is empty, in the folder."""
        if (kept := self.bucket) == url:
            return
        move = "or move them with `openlaunch migrate` first"
        if kept:
            raise ConfigurationError(
                f"the artifacts of the data directory {self._root} are in {kept}: "
                f"serve with --artifacts {kept}, {move}"
            )
        if any(names for _, _, names in os.walk(self._artifacts)):
            raise ConfigurationError(
                f"the artifacts of the data directory {self._root} are in its folder: "
                f"serve without --artifacts, {move}"
            )

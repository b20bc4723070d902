"""The highest epochs that an agent has seen of leaders, in a file: one that was started anew obeys no older one."""

import json
import os
from pathlib import Path

from openlaunch.engines.base import EngineError
from openlaunch.nodes.epochs import Epochs


class EpochFile:
    """Keeps the highest epoch of the leaders of each set of records."""

    def __init__(self, path: Path) -> None:
        self._path = path
        stored = json.loads(path.read_text()) if path.exists() else {}
        self._epochs = {records: Epochs(highest) for records, highest in stored.items()}

    def highest(self, records: str) -> int:
        return self._of(records).highest

    def _of(self, records: str) -> Epochs:
        return self._epochs.setdefault(records, Epochs())

    def obey(self, records: str, epoch: int | None) -> None:
        """Obey this leader, and store a raised epoch before that; raise `EngineError` unless it is the newest."""
        if epoch is None:
            raise EngineError(
                "the node obeys servers that lead alone, and this one has not said that it does"
            )
        epochs = self._of(records)
        before = epochs.highest
        if not epochs.obeys(epoch):
            raise EngineError(
                f"the node refuses what a leader of the epoch {epoch} orders: it has seen one of the epoch "
                f"{epochs.highest}, so another server leads"
            )
        if epochs.highest > before:
            self._store()

    def _store(self) -> None:
        text = json.dumps({records: epochs.highest for records, epochs in self._epochs.items()})
        new = self._path.with_suffix(".new")
        with new.open("w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        new.replace(self._path)

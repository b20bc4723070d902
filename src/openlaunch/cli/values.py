"""What a function returns, printed as in an answer."""

import json
import sys
from pathlib import Path
from typing import Any

from openlaunch.cli.output import note

_NO_LIMIT = sys.maxsize


class Printer:
    """Prints values as JSON, text as it is, and writes bytes to a file or to a pipe."""

    def __init__(self, output: Path | None, *, as_json: bool) -> None:
        self._output = output
        self._as_json = as_json

    def show(self, value: Any) -> None:
        """Print a value. Raise `Refusal` if no answer can have it."""
        from openlaunch_worker.answers import success
        from openlaunch_worker.values import binary_of

        if not self._as_json and (binary := binary_of(value)) is not None:
            self._write(binary.data, binary.media_type)
            return
        made = json.loads(json.loads(success(value, _NO_LIMIT))["result"]["result"])
        as_it_is = isinstance(made, str) and not self._as_json
        print(made if as_it_is else json.dumps(made, ensure_ascii=False), flush=True)

    def _write(self, data: bytes, media_type: str) -> None:
        if self._output is not None:
            self._output.write_bytes(data)
            note(f"{self._output} has the value: {len(data)} bytes of {media_type}")
        elif sys.stdout.isatty():
            note(
                f"the value is {len(data)} bytes of {media_type}: write them with --output FILE, or into a pipe"
            )
        else:
            sys.stdout.buffer.write(data)
            sys.stdout.flush()

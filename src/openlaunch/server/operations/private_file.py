"""Files that are written whole or not at all, and that their owner alone can read."""

import os
from pathlib import Path


def write_private(path: Path, text: str) -> None:
    """Replace a file by one with this text, which is on the disk then."""
    temporary = path.with_name(path.name + ".new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(descriptor)
    temporary.replace(path)

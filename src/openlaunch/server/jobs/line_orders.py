"""How the lines of a batch for models are read. A process that does so imports little, and so begins at once."""

from collections.abc import Iterator
from dataclasses import dataclass

from openlaunch.tasks.model_lines import Line, model_lines

CHUNK_BYTES = 4 * 1024 * 1024
"""The most that a chunk of several lines takes; one that is larger is a chunk alone."""


@dataclass(frozen=True)
class LinesOrder:
    """What is asked for of a batch: the number of its lines, up to `count`; or, without it, its lines, in chunks."""

    endpoint: str
    count: int | None = None
    skip: int = 0
    most: int = 0
    max_bytes: int = 0
    """The largest body of a request; a larger one is refused."""

    def read(self, pieces: Iterator[bytes]) -> Iterator[Line]:
        """Yield the lines of a file."""
        return model_lines(pieces, self.endpoint, self.max_bytes)

    def chunks(self, wanted: Iterator[Line]) -> Iterator[list[Line]]:
        """Put lines together."""
        return _chunks_of_lines(wanted, self.most)


def _chunks_of_lines(lines: Iterator[Line], most: int) -> Iterator[list[Line]]:
    """Yield chunks of lines, and an empty one at the end."""
    chunk: list[Line] = []
    size = 0
    for line in lines:
        if chunk and (len(chunk) == most or size + len(line.body) > CHUNK_BYTES):
            yield chunk
            chunk, size = [], 0
        chunk.append(line)
        size += len(line.body)
    if chunk:
        yield chunk
    yield []

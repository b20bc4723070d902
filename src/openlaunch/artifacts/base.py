"""What an artifact store is: bytes by key."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Literal, Protocol

MAX_GET_BYTES = 1024 * 1024 * 1024
"""Most that `get` holds in memory, unless it is called with less: more than any body or result may have."""


@dataclass(frozen=True, slots=True)
class Artifact:
    """A key, how many bytes are under it, and when they were stored, in seconds since the epoch."""

    key: str
    size: int
    stored_at: float


class Artifacts(Protocol):
    """Bytes by key. A key is one or more segments of letters, digits, `-`, `_` and `.`, joined by `/`.

    Every method raises BadRequest for a key of another form, and Unavailable when the place where the bytes are
    can't be read or written (disk full, bucket not reachable, …).
    """

    is_service: bool
    """Whether the bytes are with a service beside this machine, without which much of a server works."""

    async def put(self, key: str, data: bytes | bytearray | AsyncIterator[bytes]) -> int:
        """Store the bytes, whole or not at all, and return their number."""

    async def get(self, key: str, limit: int = MAX_GET_BYTES) -> bytes:
        """Return all the bytes.

        Raises NotFound when there are none under this key, and PayloadTooLarge when they are over the limit.
        """

    async def size(self, key: str) -> int:
        """Return the number of bytes. Raises NotFound when there are none under this key."""

    def stream(self, key: str, piece: int = 1 << 20) -> AsyncIterator[bytes]:
        """Yield the bytes in pieces of about `piece` bytes. Raises NotFound when there are none under this key.

        All pieces are of one version. Where it is replaced meanwhile, a driver may raise Unavailable.
        """

    def pages(self, folder: str) -> AsyncIterator[list[Artifact]]:
        """Yield what there is under keys that begin with the folder's name, some hundred at a time, in any order."""

    async def delete_partial(self, before: float) -> int:
        """Delete what broken-off calls of `put` have left, written last before then; return how many."""

    async def delete(self, *keys: str) -> None:
        """Delete the bytes; harmless where there are none."""

    async def probe(self) -> None:
        """Do what can be done with bytes, to see whether it works."""

    async def signed_url(self, method: Literal["GET", "PUT"], key: str, seconds: float) -> str | None:
        """Return a URL that opens the key to the method for that time; None: the bytes go through the server."""

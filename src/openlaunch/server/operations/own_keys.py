"""The keys that a data directory keeps."""

import hashlib
import secrets
from pathlib import Path

from openlaunch.server.operations.private_file import write_private

SECRET_BYTES = 32


class OwnKeys:
    """The key of signed URLs, which also marks what is the directory's elsewhere, and the keys of secrets."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def url_secret(self) -> bytes:
        """Return the key that signs URLs; it is made at the first call and kept, so that URLs outlive a restart."""
        path = self._root / "url-secret"
        if not path.exists():
            write_private(path, secrets.token_hex(SECRET_BYTES))
        return bytes.fromhex(path.read_text().strip())

    def secrets_keys(self) -> list[str]:
        """Return the keys of secrets, the newest first; none where there are no secrets yet."""
        path = self._root / "secrets-key"
        return path.read_text().split() if path.exists() else []

    def write_secrets_keys(self, keys: list[str]) -> None:
        """Keep these keys of secrets in place of the others."""
        write_private(self._root / "secrets-key", "".join(f"{key}\n" for key in keys))

    def take_url_secret(self, secret: bytes) -> None:
        """Keep the key that all servers of a cluster sign URLs with."""
        if secret != self.url_secret():
            write_private(self._root / "url-secret", secret.hex())

    def mark(self) -> str:
        """Return what marks bytes that lie elsewhere as this directory's; a restored backup has the same."""
        return hashlib.sha256(b"artifacts\n" + self.url_secret()).hexdigest()[:32]

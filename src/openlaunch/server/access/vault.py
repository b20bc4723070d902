"""Encrypts and decrypts secrets with AES-GCM, each bound to its owner and name.

The key is the server's own, in a file of its data directory, or what `OPENLAUNCH_SECRETS_KEY` has. Of several keys
the first encrypts, and all decrypt: so a key is replaced without a moment at which a secret can't be read.
"""

import os
import re
import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING

from pydantic import SecretStr

from openlaunch.errors import ConfigurationError
from openlaunch.server.operations.own_keys import OwnKeys

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_BYTES = 32
_NONCE_BYTES = 12


class Undecipherable(Exception):
    """A secret was encrypted with a key that is not here, or was changed since."""


class Vault:
    """The keys that secrets are encrypted with."""

    def __init__(self, own: OwnKeys, given: SecretStr | None, *, shared: bool) -> None:
        """Take the keys that are given, or else those of the data directory, which servers can't have `shared`."""
        self._own = own
        self._given = None if given is None else _keys(given.get_secret_value().split(","))
        self._shared = shared

    def keys(self) -> list[bytes]:
        """Return the keys, the newest first; without any, make one.

        Raises:
            ConfigurationError: the file can't be read, or several servers would each have a key of their own.
        """
        if self._given is not None:
            return self._given
        if self._shared:
            raise ConfigurationError(
                "the servers of a cluster need the same key for secrets, and none is given: make one with "
                "`openssl rand -hex 32`, and set OPENLAUNCH_SECRETS_KEY to it for every server"
            )
        return _keys(self._own.secrets_keys() or self._replaced([]))

    def _replaced(self, old: list[str]) -> list[str]:
        keys = [secrets.token_hex(KEY_BYTES), *old]
        self._own.write_secrets_keys(keys)
        return keys

    def add_key(self) -> Callable[[], None]:
        """Encrypt with a new key from now on; call what is returned once nothing needs the old ones.

        Keys of `OPENLAUNCH_SECRETS_KEY` stay as they are: there the first one is the new one.
        """
        keys = self.keys()
        if self._given is not None:
            return lambda: None
        newest = self._replaced([key.hex() for key in keys])[0]
        return lambda: self._own.write_secrets_keys([newest])

    def seal(self, owner: str, name: str, value: str) -> bytes:
        """Encrypt a secret."""
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + _cipher(self.keys()[0]).encrypt(nonce, value.encode(), _bound_to(owner, name))

    def open(self, owner: str, name: str, sealed: bytes) -> str:
        """Decrypt a secret, or raise `Undecipherable`."""
        from cryptography.exceptions import InvalidTag

        nonce, text = sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:]
        for key in self.keys():
            try:
                return str(_cipher(key).decrypt(nonce, text, _bound_to(owner, name)), "utf-8")
            except InvalidTag:
                continue
        raise Undecipherable(
            f"the secret {name!r} was stored with a key that this server does not have: give the old key back, or "
            f"set the secret again with `openlaunch secrets set {name}`"
        )


def _cipher(key: bytes) -> "AESGCM":
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # only a server with secrets imports it

    return AESGCM(key)


def _bound_to(owner: str, name: str) -> bytes:
    return f"{owner}\0{name}".encode()


def _keys(texts: list[str]) -> list[bytes]:
    if not texts or not all(re.fullmatch(r"[0-9a-fA-F]{64}", text.strip()) for text in texts):
        raise ConfigurationError(
            "the key for secrets is not 64 hexadecimal digits (several with , between them, the newest first): make "
            "one with `openssl rand -hex 32`"
        )
    return [bytes.fromhex(text.strip()) for text in texts]

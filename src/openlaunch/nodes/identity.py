"""How servers and agents prove to each other that they belong to one cluster.

Both know one secret, the cluster's token. The agents' TLS key is derived from it, so that a server knows the only
certificate that it trusts, and no certificate has to be made, copied or renewed.
"""

import hashlib
import hmac
import ssl
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from openlaunch.errors import ConfigurationError

BEGIN, END = datetime(2000, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC)
"""The certificate is always valid: a node whose clock is wrong serves."""


class ClusterIdentity:
    """What is derived from a cluster's token. The token itself is sent to nobody.

    Raises:
        ConfigurationError: `cryptography` is not installed.
    """

    def __init__(self, token: str) -> None:
        self._secret = token.encode()
        self.proof = self._derive("hello").hex()
        """What a server says to an agent, over TLS, to prove that it knows the token."""
        self.name = self._derive("name").hex()[:32]
        """A name of the cluster that may be shown."""

    def __repr__(self) -> str:
        return f"ClusterIdentity(name={self.name!r})"

    def _derive(self, purpose: str) -> bytes:
        return hmac.digest(self._secret, b"openlaunch cluster " + purpose.encode(), hashlib.sha256)

    def is_proof(self, given: object) -> bool:
        return isinstance(given, str) and given.isascii() and hmac.compare_digest(given, self.proof)

    def agent_context(self) -> ssl.SSLContext:
        """Make what an agent listens with."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        certificate, key = self._certificate()
        with (
            tempfile.TemporaryDirectory() as folder
        ):  # which this user alone can read; ssl loads from files only
            path = Path(folder) / "agent.pem"
            path.write_bytes(key + certificate)
            context.load_cert_chain(path)
        return context

    def server_context(self) -> ssl.SSLContext:
        """Make what a server dials agents with: the one certificate that is trusted is the cluster's."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.check_hostname = False  # the key says who it is, whatever the address
        context.load_verify_locations(cadata=self._certificate()[0].decode())
        return context

    def _certificate(self) -> tuple[bytes, bytes]:
        """Return the certificate and its key as PEM, which are always the same for a token."""
        try:
            from cryptography import x509
            from cryptography.hazmat.primitives import serialization
            from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        except ImportError as error:
            raise ConfigurationError(
                f"agents need what is not installed ({error}): pip install 'openlaunch[server,cluster]'"
            ) from None
        key = Ed25519PrivateKey.from_private_bytes(self._derive("agent key"))
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, f"openlaunch {self.name}")])
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(1)
            .not_valid_before(BEGIN)
            .not_valid_after(END)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .sign(key, algorithm=None)
        )
        plain = serialization.NoEncryption()
        pem, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
        return certificate.public_bytes(pem), key.private_bytes(pem, form, plain)

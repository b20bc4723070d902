"""Secrets: what a model needs to know and nobody else."""

from openlaunch.client.effects import Flow, Request, call, json_body, path_to
from openlaunch.client.models import answer, got
from openlaunch.errors import Unprocessable
from openlaunch.wire import routes
from openlaunch.wire.secrets import ListSecretsResponse, RotateSecretsResponse, SecretSummary


def set_secret(name: str, value: str) -> Flow[SecretSummary]:
    """Store a secret, which endpoints name in `secrets`. It is never shown again.

    Workers find the secret `hf-token` in the variable `HF_TOKEN`. Endpoints that use it and have another value get
    new workers, without an interruption.

    Args:
        name: letters, digits, `-` and `_`, at most 64, a letter first.
        value: text, at most 32 KiB.

    Raises:
        Unprocessable: the name or the value is not allowed.
        Conflict: an endpoint that uses it has a canary.
    """
    if not isinstance(value, str):
        raise Unprocessable(f"the secret's value is of type {type(value).__name__}, text is needed")
    path = path_to(routes.SECRETS, name)
    return (
        yield from answer(SecretSummary, Request("PUT", path, json_body({"value": value}), idempotent=True))
    )


def list_secrets() -> Flow[list[SecretSummary]]:
    """List your secrets without their values, and the endpoints that use each."""
    return (yield from got(ListSecretsResponse, routes.SECRETS)).secrets


def delete_secret(name: str) -> Flow[None]:
    """Delete a secret.

    Raises:
        NotFound: there is none of this name.
        Conflict: an endpoint uses it.
    """
    yield from call(Request("DELETE", path_to(routes.SECRETS, name), idempotent=True))


def rotate_secrets() -> Flow[int]:
    """Encrypt everybody's secrets with a new key, for admins, and give their number.

    Where the server has keys from OPENLAUNCH_SECRETS_KEY, the first of them is the new one.
    """
    return (yield from answer(RotateSecretsResponse, Request("POST", routes.SECRETS_ROTATION, b"{}"))).secrets

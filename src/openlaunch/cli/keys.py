"""`openlaunch keys`."""

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from openlaunch.cli.connection import connect
from openlaunch.cli.output import Json, emit, emit_rows, note, when

if TYPE_CHECKING:
    from openlaunch.wire.keys import KeySummary

app = typer.Typer(help="API keys, for admins.", no_args_is_help=True)

Role = Literal["predict", "user", "admin", "metrics"]
KeyId = Annotated[str, typer.Argument(help="The key's id, not the key.")]
PerSecond = Annotated[
    float | None,
    typer.Option("--requests-per-second", help="Predictions a second; more get 429. 0: no limit.", min=0),
]
Burst = Annotated[int | None, typer.Option(help="Requests that may come at once after a quiet time.", min=0)]
PerDay = Annotated[
    int | None,
    typer.Option(
        "--requests-per-day", help="Predictions a day, from 0:00 UTC; more get 429. 0: no limit.", min=0
    ),
]
TokensPerMinute = Annotated[
    int | None,
    typer.Option(
        "--tokens-per-minute", help="Tokens of language models a minute; more get 429. 0: no limit.", min=0
    ),
]
TokensPerDay = Annotated[
    int | None,
    typer.Option(
        "--tokens-per-day",
        help="Tokens of language models a day, from 0:00 UTC; more get 429. 0: no limit.",
        min=0,
    ),
]
Expires = Annotated[
    datetime | None, typer.Option("--expires-at", help="When the key expires, in local time.")
]


@app.command("create")
def create_key(
    context: typer.Context,
    owner: Annotated[str, typer.Option(help="The user whose objects the key reads and writes.")],
    role: Annotated[
        Role,
        typer.Option(
            help="What the key may do; predict only sends predictions, metrics only reads /metrics."
        ),
    ] = "user",
    rate: PerSecond = None,
    burst: Burst = None,
    daily: PerDay = None,
    tokens: TokensPerMinute = None,
    daily_tokens: TokensPerDay = None,
    end: Expires = None,
    as_json: Json = False,
) -> None:
    """Create a key and print it. It is never shown again."""
    with connect(context) as client:
        made = client.create_api_key(
            owner,
            role,
            requests_per_second=rate,
            burst=burst,
            requests_per_day=daily,
            tokens_per_minute=tokens,
            tokens_per_day=daily_tokens,
            expires_at=end,
        )
    emit(made, as_json, lambda: print(made.api_key))
    if not as_json:
        note(f"key {made.id} of {made.owner}: keep it, it is not shown again")


@app.command("list")
def list_keys(
    context: typer.Context,
    owner: Annotated[str | None, typer.Option(help="Only keys of this owner.")] = None,
    as_json: Json = False,
) -> None:
    """List all keys, without their secrets."""
    with connect(context) as client:
        found = client.list_api_keys(owner)
    columns = ("ID", "OWNER", "ROLE", "KEY", "CREATED", "END", "LIMITS")
    emit_rows(found, as_json, columns, _row, optional=("CREATED", "KEY", "END"))


def _row(key: "KeySummary") -> tuple[object, ...]:
    secret = f"{key.prefix}…"
    return key.id, key.owner, key.role.value, secret, when(key.created_at), _end(key), _limits(key)


def _end(key: "KeySummary") -> str | None:
    if key.revoked_at is not None:
        return f"revoked {when(key.revoked_at)}"
    return when(key.expires_at)


def _limits(key: "KeySummary") -> str | None:
    burst = f" (burst {key.burst})" if key.burst else ""
    parts = [f"{key.requests_per_second:g}/s{burst}"] if key.requests_per_second else []
    parts += [f"{key.requests_per_day}/day"] if key.requests_per_day else []
    parts += [f"{key.tokens_per_minute} tokens/min"] if key.tokens_per_minute else []
    parts += [f"{key.tokens_today} of {key.tokens_per_day} tokens/day"] if key.tokens_per_day else []
    return ", ".join(parts) or None


@app.command("update")
def update_key(
    context: typer.Context,
    key_id: KeyId,
    rate: PerSecond = None,
    burst: Burst = None,
    daily: PerDay = None,
    tokens: TokensPerMinute = None,
    daily_tokens: TokensPerDay = None,
    end: Expires = None,
    as_json: Json = False,
) -> None:
    """Change the given limits of a key, from now on."""
    with connect(context) as client:
        changed = client.update_api_key(
            key_id,
            requests_per_second=rate,
            burst=burst,
            requests_per_day=daily,
            tokens_per_minute=tokens,
            tokens_per_day=daily_tokens,
            expires_at=end,
        )
    limits = _limits(changed) or "none"
    emit(changed, as_json, lambda: print(f"limits of key {changed.id}: {limits}"))


@app.command("revoke")
def revoke_key(context: typer.Context, key_id: KeyId, as_json: Json = False) -> None:
    """Revoke a key: it is refused from now on."""
    with connect(context) as client:
        client.revoke_api_key(key_id)
    emit({"id": key_id, "revoked": True}, as_json, lambda: note(f"key {key_id} is revoked"))


@app.command("callback-secret")
def show_callback_secret(context: typer.Context, as_json: Json = False) -> None:
    """Print the secret that the signatures of your callbacks are verified with."""
    with connect(context) as client:
        secret = client.get_callback_secret()
    emit({"secret": secret}, as_json, lambda: print(secret))

"""`openlaunch quotas`."""

from typing import TYPE_CHECKING, Annotated

import typer

from openlaunch.cli.connection import connect
from openlaunch.cli.output import Json, emit, emit_rows
from openlaunch.wire.keywords import QUOTA_HELP

if TYPE_CHECKING:
    from openlaunch.wire.quotas import OwnerQuotas

app = typer.Typer(help="How much each owner may have.", no_args_is_help=True)

_TOKENS, _TOKEN_COLUMNS = ("tokens_per_minute", "tokens_per_day"), ("TOKENS/MIN", "TOKENS/DAY")
NAMES = ("endpoints", "workers", "cpus", "memory", "gpus", "queued_tasks", "stored_bytes", *_TOKENS)
COLUMNS = ("OWNER", "ENDPOINTS", "WORKERS", "CPUS", "MEMORY", "GPUS", "QUEUED", "STORED", *_TOKEN_COLUMNS)
_BYTES = ("memory", "stored_bytes")


def _option(name: str) -> typer.models.OptionInfo:
    found: typer.models.OptionInfo = typer.Option(help=QUOTA_HELP[name], metavar="AMOUNT")
    return found


@app.command("list")
def list_quotas(
    context: typer.Context,
    owner: Annotated[str | None, typer.Option(help="For admins: only of this owner.")] = None,
    as_json: Json = False,
) -> None:
    """List what is used and what is allowed, as USED/ALLOWED: your own, or for admins of all owners."""
    with connect(context) as client:
        found = client.list_quotas(owner)
    emit_rows(found, as_json, COLUMNS, _row, optional=(*_TOKEN_COLUMNS, "QUEUED", "GPUS", "CPUS"))


def _row(quotas: "OwnerQuotas") -> tuple[object, ...]:
    return quotas.owner, *(_cell(quotas, name) for name in NAMES)


def _cell(quotas: "OwnerQuotas", name: str) -> str:
    allowed = getattr(quotas.allowed, name)
    return f"{_shown(name, getattr(quotas.used, name))}/{'-' if allowed is None else _shown(name, allowed)}"


def _shown(name: str, amount: float) -> str:
    if name not in _BYTES or amount < 1024:
        return f"{amount:.12g}"
    unit, factor = next((u, f) for u, f in (("Gi", 2**30), ("Mi", 2**20), ("Ki", 2**10)) if amount >= f)
    return f"{amount / factor:.4g}{unit}"


@app.command("set")
def set_quotas(
    context: typer.Context,
    owner: Annotated[str, typer.Argument(help="Whose quotas.")],
    endpoints: Annotated[str | None, _option("endpoints")] = None,
    workers: Annotated[str | None, _option("workers")] = None,
    cpus: Annotated[str | None, _option("cpus")] = None,
    memory: Annotated[str | None, _option("memory")] = None,
    gpus: Annotated[str | None, _option("gpus")] = None,
    queued_tasks: Annotated[str | None, _option("queued_tasks")] = None,
    stored_bytes: Annotated[str | None, _option("stored_bytes")] = None,
    tokens_per_minute: Annotated[str | None, _option("tokens_per_minute")] = None,
    tokens_per_day: Annotated[str | None, _option("tokens_per_day")] = None,
    as_json: Json = False,
) -> None:
    """Set quotas of an owner, for admins. AMOUNT is a number, `unlimited`, or `default` for the server's setting.

    What the owner has already stays, also where it is more than is allowed then.
    """
    with connect(context) as client:
        found = client.set_quotas(
            owner,
            endpoints=endpoints,
            workers=workers,
            cpus=cpus,
            memory=memory,
            gpus=gpus,
            queued_tasks=queued_tasks,
            stored_bytes=stored_bytes,
            tokens_per_minute=tokens_per_minute,
            tokens_per_day=tokens_per_day,
        )
    text = ", ".join(f"{name} {_cell(found, name)}" for name in NAMES)
    emit(found, as_json, lambda: print(f"{owner}: {text}"))

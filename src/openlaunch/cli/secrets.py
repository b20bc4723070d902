"""`openlaunch secrets`."""

import sys
from getpass import getpass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from openlaunch.cli.connection import connect
from openlaunch.cli.inputs import read_text
from openlaunch.cli.output import Json, emit, emit_rows, note, when
from openlaunch.cli.owners import with_owners

if TYPE_CHECKING:
    from openlaunch.wire.secrets import SecretSummary

app = typer.Typer(help="Secrets that models need, such as tokens.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="Letters, digits, - and _; workers find hf-token in HF_TOKEN.")]


@app.command("set")
def set_secret(
    context: typer.Context,
    name: Name,
    file: Annotated[
        Path | None,
        typer.Option(help="A file that has the value.  [default: ask for it, or read standard input]"),
    ] = None,
    as_json: Json = False,
) -> None:
    """Store a secret, which endpoints name with --secret. Its value is never shown again.

    The value is asked for, or read from standard input, without the last line end. It can't be given in the command,
    which every user of the machine would see. Endpoints that use it get new workers where it has changed.
    """
    with connect(context) as client:
        made = client.set_secret(name, _value(name, file))
    emit(made, as_json, lambda: note(f"the secret {made.name} is stored; workers find it in {made.variable}"))


def _value(name: str, file: Path | None) -> str:
    if file is not None:
        text = read_text(str(file), "--file")
    else:
        text = getpass(f"value of {name}: ") if sys.stdin.isatty() else sys.stdin.read()
    value = text.removesuffix("\n").removesuffix("\r")
    if not value:
        raise typer.BadParameter(
            "no value was given: type it, send it to standard input, or name a file with --file"
        )
    return value


@app.command("list")
def list_secrets(context: typer.Context, as_json: Json = False) -> None:
    """List your secrets, without their values."""
    with connect(context) as client:
        found = client.list_secrets()
    columns = ("NAME", "VARIABLE", "CHANGED", "ENDPOINTS")
    emit_rows(found, as_json, *with_owners(context, columns, _row, lambda each: each.owner))


def _row(secret: "SecretSummary") -> tuple[object, ...]:
    return secret.name, secret.variable, when(secret.updated_at), ", ".join(secret.endpoints)


@app.command("delete")
def delete_secret(context: typer.Context, name: Name) -> None:
    """Delete a secret that no endpoint uses."""
    with connect(context) as client:
        client.delete_secret(name)
    note(f"the secret {name} is deleted")


@app.command("rotate")
def rotate_secrets(context: typer.Context, as_json: Json = False) -> None:
    """Encrypt everybody's secrets with a new key, for admins.

    Where OPENLAUNCH_SECRETS_KEY has the server's keys, first write the new key before the old one there, and restart
    the server.
    """
    with connect(context) as client:
        count = client.rotate_secrets()
    emit({"secrets": count}, as_json, lambda: note(f"{count} secrets are encrypted with the new key"))

"""`openlaunch keys`."""

from typing import Annotated

import typer

from openlaunch.cli.connection import connect
from openlaunch.cli.output import Json, emit, note, table, when

app = typer.Typer(help="API keys, for admins.", no_args_is_help=True)


@app.command("create")
def create_key(
    context: typer.Context,
    owner: Annotated[str, typer.Option(help="The user whose things the key reads and writes.")],
    role: Annotated[str, typer.Option(help="user or admin.")] = "user",
    as_json: Json = False,
) -> None:
    """Make a key and print it, the one time that it is shown."""
    with connect(context) as client:
        made = client.create_api_key(owner, role)
    emit(made.model_dump(mode="json"), as_json, lambda: print(made.api_key))
    if not as_json:
        note(f"key {made.id} of {made.owner}: keep it, it is not shown again")


@app.command("list")
def list_keys(context: typer.Context, as_json: Json = False) -> None:
    """List all keys, without their secrets."""
    with connect(context) as client:
        found = client.list_api_keys()
    rows = [
        (key.id, key.owner, key.role.value, f"{key.prefix}…", when(key.created_at), when(key.revoked_at))
        for key in found
    ]
    emit(
        [key.model_dump(mode="json") for key in found],
        as_json,
        lambda: table(("ID", "OWNER", "ROLE", "KEY", "CREATED", "REVOKED"), rows),
    )


@app.command("revoke")
def revoke_key(
    context: typer.Context, key_id: Annotated[str, typer.Argument(help="The key's id, not the key.")]
) -> None:
    """Make a key useless from now on."""
    with connect(context) as client:
        client.revoke_api_key(key_id)
    note(f"key {key_id} is revoked")


@app.command("callback-secret")
def show_callback_secret(context: typer.Context, as_json: Json = False) -> None:
    """Print the secret that the signatures of your callbacks are verified with."""
    with connect(context) as client:
        secret = client.get_callback_secret()
    emit({"secret": secret}, as_json, lambda: print(secret))

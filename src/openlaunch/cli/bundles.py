"""`openlaunch bundles`."""

from operator import attrgetter
from typing import TYPE_CHECKING, Annotated

import typer

from openlaunch.cli.connection import connect
from openlaunch.cli.output import Json, emit, emit_rows, fields, note, when
from openlaunch.cli.owners import with_owners
from openlaunch.errors import NotFound

if TYPE_CHECKING:
    from openlaunch.wire.bundles import ModelBundleResponse

app = typer.Typer(help="Model bundles: code and model, which never change.", no_args_is_help=True)


@app.command("list")
def list_bundles(
    context: typer.Context,
    name: Annotated[str | None, typer.Option(help="Only bundles of this name.")] = None,
    as_json: Json = False,
) -> None:
    """List your bundles, newest first, with their versions: the first of a name is 1."""
    with connect(context) as client:
        found = client.list_model_bundles_v2(name).model_bundles
    columns, row = with_owners(context, _COLUMNS, _row, attrgetter("owner"))
    emit_rows(found, as_json, columns, row, optional=("FLAVOR", "CREATED"))


_COLUMNS = ("NAME", "VERSION", "ID", "FLAVOR", "CREATED")


def _row(bundle: "ModelBundleResponse") -> tuple[object, ...]:
    return bundle.name, bundle.version, bundle.id, bundle.flavor.flavor, when(bundle.created_at)


@app.command("get")
def get_bundle(
    context: typer.Context,
    bundle: Annotated[str, typer.Argument(help="The bundle's id, or its name for the newest one.")],
    as_json: Json = False,
) -> None:
    """Show one bundle."""
    with connect(context) as client:
        try:
            found = client.get_model_bundle_v2(bundle)
        except NotFound:
            found = client.get_latest_model_bundle_v2(bundle)
    emit(found, as_json, lambda: _describe(found))


@app.command("delete")
def delete_bundle(
    context: typer.Context,
    bundle_id: Annotated[str, typer.Argument(help="The bundle's id.")],
    as_json: Json = False,
) -> None:
    """Delete a bundle that no endpoint and no batch job names."""
    with connect(context) as client:
        client.delete_model_bundle(bundle_id)
    emit({"id": bundle_id, "deleted": True}, as_json, lambda: note(f"the bundle {bundle_id} is deleted"))


def _describe(bundle: "ModelBundleResponse") -> None:
    flavor = bundle.flavor
    fields(
        (
            ("name", bundle.name),
            ("version", bundle.version),
            ("id", bundle.id),
            ("created", when(bundle.created_at)),
            ("flavor", flavor.flavor),
            ("python", getattr(flavor, "python_version", None)),
            ("image", getattr(flavor, "image", None)),
            ("requirements", ", ".join(getattr(flavor, "requirements", [])) or "none"),
            ("location", getattr(flavor, "location", None)),
        )
    )

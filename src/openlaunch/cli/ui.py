"""`openlaunch ui`."""

import webbrowser
from typing import Annotated

import typer

from openlaunch.cli.connection import connect
from openlaunch.cli.output import Json, emit


def ui(
    context: typer.Context,
    browser: Annotated[bool, typer.Option(help="Open it in a browser; without, only print the link.")] = True,
    as_json: Json = False,
) -> None:
    """Open the server's page, signed in with your key; the link that is printed signs in once, within ten minutes."""
    with connect(context) as client:
        url = f"{client.url.split(',')[0].rstrip('/')}/#link={client.make_page_link()}"
    emit({"url": url}, as_json, lambda: print(url))
    if browser:
        webbrowser.open(url)

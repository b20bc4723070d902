"""`openlaunch login`, `logout`, `whoami` and `profiles`: the servers that the config file names."""

import os
import sys
from getpass import getpass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

import typer

from openlaunch.cli.connection import connect, options_of
from openlaunch.cli.output import Json, emit, emit_rows, fields, note, when
from openlaunch.errors import Unauthorized
from openlaunch.wire.routes import HEALTHZ

if TYPE_CHECKING:
    from openlaunch.wire.keys import WhoamiResponse

app = typer.Typer(help="Servers that you have logged in to.", no_args_is_help=True)

ProfileName = Annotated[str, typer.Argument(help="The profile's name.")]


def login(
    context: typer.Context,
    url: Annotated[str, typer.Argument(help="URL of the server, such as https://models.example.org.")],
    ca_file: Annotated[
        Path | None, typer.Option(help="PEM file of certificates to trust beside the system's.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Log in to a server: check a key, and store it with the server's URL as a profile, which is then in use.

    The key is asked for without echo, or read from standard input where that is not a terminal. The profile has the
    server's host as its name, or that of --profile. The config file is readable for you alone.
    """
    from openlaunch import LaunchClient
    from openlaunch.client.effects import Request, call
    from openlaunch.client.profiles import Profile, read_config, write_config

    given, config = options_of(context), read_config()
    certificates = None if ca_file is None else str(ca_file.resolve())
    if given.api_key is None:
        with LaunchClient(
            "none yet", url, use_path_with_custom_endpoint=True, ca_file=certificates
        ) as client:
            client.run(call(Request("GET", HEALTHZ, idempotent=True)))  # is there a server to give a key to?
    key = given.api_key or _ask_for_key(url)
    with LaunchClient(key, url, use_path_with_custom_endpoint=True, ca_file=certificates) as client:
        try:
            caller = client.whoami()
        except Unauthorized as error:
            error.add_note("nothing is stored; an admin makes a key with `openlaunch keys create`")
            raise
        profile = Profile(
            given.profile or urlsplit(client.url.split(",")[0]).netloc, client.url, key, certificates
        )
    write_config(config.with_profile(profile))
    document = {
        "profile": profile.name,
        "url": profile.url,
        "file": str(config.path),
        **caller.model_dump(mode="json"),
    }
    emit(
        document,
        as_json,
        lambda: print(f"logged in to {profile.url} as {caller.owner} ({caller.role.value})"),
    )
    note(f"the profile {profile.name} is in use; its URL and key are stored in {config.path}")
    _warn_of_environment()


def _ask_for_key(url: str) -> str:
    text = getpass(f"API key for {url}: ") if sys.stdin.isatty() else sys.stdin.readline()
    if not text.strip():
        raise typer.BadParameter(
            "no key was given: type it, give --api-key, or send it to standard input", param_hint="API key"
        )
    return text.strip()


def _warn_of_environment() -> None:
    """Say that variables go before the profile, which would otherwise seem to have no effect."""
    for name in ("OPENLAUNCH_URL", "LAUNCH_ENDPOINT", "OPENLAUNCH_PROFILE", "OPENLAUNCH_API_KEY"):
        if os.environ.get(name):
            note(f"hint: {name} is set, and goes before the profile in use")


def logout(context: typer.Context, as_json: Json = False) -> None:
    """Remove the profile in use, or that of --profile, with its key, from the config file.

    The key stays valid on the server; `openlaunch keys revoke` ends it.
    """
    from openlaunch.client.profiles import read_config, write_config

    config = read_config()
    name = options_of(context).profile or config.active
    if name is None:
        raise typer.BadParameter(f"no profile is in use in {config.path}; name one with --profile")
    profile = config.profile(name)
    write_config(config.without(name))
    emit({"profile": name, "url": profile.url}, as_json, lambda: print(f"logged out of {profile.url}"))
    note(f"the profile {name} and its key are removed from {config.path}")
    if len(config.profiles) > 1 and config.active == name:
        note("hint: no profile is in use now; `openlaunch profiles use NAME` chooses another one")


def whoami(context: typer.Context, as_json: Json = False) -> None:
    """Show which server commands talk to, whose key they use, and where each of the two came from."""
    from openlaunch.client.config import find_address

    given = options_of(context)
    with connect(context) as client:
        address = find_address(given.api_key, given.server, profile=given.profile, keep_path=True)
        caller = client.whoami()
    sources = {"url": address.source, "key": address.key_source}
    document = {"url": address.url, "sources": sources, **caller.model_dump(mode="json")}
    emit(document, as_json, lambda: fields(_described(address.url, sources, caller)))


def _described(url: str, sources: dict[str, str], caller: "WhoamiResponse") -> list[tuple[str, object]]:
    return [
        ("server", f"{url} (from {sources['url']})"),
        ("key", f"{caller.key_id} (from {sources['key']})"),
        ("owner", caller.owner),
        ("role", caller.role.value),
        ("expires", when(caller.expires_at)),
    ]


@app.command("list")
def list_profiles(as_json: Json = False) -> None:
    """List the profiles of the config file, without their keys."""
    from openlaunch.client.profiles import read_config

    config = read_config()
    found = [
        {"name": p.name, "url": p.url, "ca_file": p.ca_file, "in_use": p.name == config.active}
        for p in config.profiles.values()
    ]
    emit_rows(found, as_json, ("NAME", "IN USE", "URL"), lambda p: (p["name"], _mark(p["in_use"]), p["url"]))
    if not found:
        note(f"hint: {config.path} has no profile; `openlaunch login URL` makes one")


def _mark(in_use: bool) -> str | None:
    return "yes" if in_use else None


@app.command("use")
def use_profile(name: ProfileName, as_json: Json = False) -> None:
    """Use a profile from now on."""
    from openlaunch.client.profiles import read_config, write_config

    config = read_config()
    profile = config.profile(name)
    write_config(config.with_profile(profile))
    emit({"profile": name, "url": profile.url}, as_json, lambda: print(f"commands use {name}: {profile.url}"))
    _warn_of_environment()

"""The command's root: global options, the nouns, and one place for errors."""

import errno
import os
import sys
from collections.abc import Sequence
from importlib.metadata import version as version_of
from typing import Annotated, Any

import typer
import typer.main

from openlaunch.cli import (
    agent,
    audit,
    backup,
    batch_jobs,
    bundles,
    completion,
    deploy,
    dev,
    docs,
    endpoints,
    environments,
    image_jobs,
    keys,
    llm,
    migrate,
    nodes,
    profiles,
    project,
    quotas,
    run_here,
    secrets,
    serve,
    storage,
    subscriptions,
    tasks,
    top,
    triggers,
    ui,
)
from openlaunch.cli.connection import GlobalOptions, add_global_options, explain_key
from openlaunch.cli.exits import HELP, Exit, code_of, show, show_usage
from openlaunch.cli.output import Json, emit, note
from openlaunch.cli.owners import add_owner_options, with_owner
from openlaunch.cli.variables import misspelled
from openlaunch.errors import OpenlaunchError, Unauthorized

PROGRAM = "openlaunch"

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # help and usage errors in plain text: no boxes that break words when piped
    epilog=HELP,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"openlaunch {version_of('openlaunch')}")
        raise typer.Exit


@app.callback()
def root(
    show_version: Annotated[
        bool,
        typer.Option(
            "--version", "-V", help="Print the version and exit.", is_eager=True, callback=_print_version
        ),
    ] = False,
) -> None:
    """Turn Python functions into model endpoints."""
    for sentence in misspelled(os.environ):
        note(f"warning: {sentence}")


@app.command()
def version(as_json: Json = False) -> None:
    """Print the version."""
    number = version_of("openlaunch")
    emit({"version": number}, as_json, lambda: print(number))


app.command("completion")(completion.completion)
app.command("serve")(serve.serve)
app.command("agent")(agent.agent)
app.command("deploy")(with_owner(deploy.deploy))
app.command("init")(project.init)
app.command("diff")(project.diff)
app.command("apply")(project.apply)
app.command("dev")(dev.dev)
app.command("run")(run_here.run_here)
app.command("predict")(with_owner(tasks.send_task))
app.command("docs")(docs.docs)
app.command("login")(profiles.login)
app.command("logout")(profiles.logout)
app.command("whoami")(profiles.whoami)
app.add_typer(profiles.app, name="profiles")
app.command("backup")(backup.backup)
app.command("restore")(backup.restore)
app.command("migrate")(migrate.migrate)
app.command("storage")(storage.storage)
app.command("top")(with_owner(top.top, lists=True))
app.command("ui")(ui.ui)
for noun in (bundles, endpoints, llm, environments, tasks, batch_jobs, image_jobs, triggers, subscriptions):
    add_owner_options(noun.app)
add_owner_options(secrets.app, but="rotate")
app.add_typer(bundles.app, name="bundles")
app.add_typer(endpoints.app, name="endpoints")
app.add_typer(llm.app, name="llm")
app.add_typer(environments.app, name="environments")
app.add_typer(tasks.app, name="tasks")
app.add_typer(batch_jobs.app, name="batch-jobs")
app.add_typer(image_jobs.app, name="image-jobs")
app.add_typer(triggers.app, name="triggers")
app.add_typer(keys.app, name="keys")
app.add_typer(quotas.app, name="quotas")
app.add_typer(secrets.app, name="secrets")
app.add_typer(audit.app, name="audit")
app.add_typer(nodes.app, name="nodes")
app.add_typer(subscriptions.app, name="subscriptions")


def command() -> Any:
    """Make the command with all below it, as typer's click has them."""
    made = typer.main.get_command(app)
    add_global_options(made)
    return made


def _open_streams() -> None:
    """Open what is closed of the three standard streams, as with 2>&- in a shell, to the null device.

    Else a file or a socket would get the number of one, and what is printed.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), mode))


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command, show what went wrong, and give the exit code; without arguments, with the program's own."""
    _open_streams()
    made, options = command(), GlobalOptions()
    completion.prepare(made)
    try:
        code = made.main(args=arguments, prog_name=PROGRAM, standalone_mode=False, obj=options)
        sys.stdout.flush()
    except OpenlaunchError as error:
        if isinstance(error, Unauthorized):
            explain_key(error, options)
        show(error)
        return code_of(error)
    except (KeyboardInterrupt, typer.Abort):
        return Exit.INTERRUPTED
    except (BrokenPipeError, SystemExit) as error:
        # The program that read the output has ended, as `head` does; Python would complain again at its end. Where a
        # command was still printing, click has made an exit with 1 of it.
        if not isinstance(error, BrokenPipeError) and not isinstance(error.__context__, BrokenPipeError):
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.PIPE_CLOSED
    except Exception as error:
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            show(error)
            return Exit.FAILED
        if not hasattr(error, "format_message"):  # click's, or that of the copy of click in newer typers
            raise
        show_usage(error)
        return Exit.USAGE
    return code if isinstance(code, int) else Exit.OK

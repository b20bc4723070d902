"""`openlaunch subscriptions`."""

from typing import TYPE_CHECKING, Annotated

import typer

from openlaunch.cli.connection import connect
from openlaunch.cli.output import Json, emit, emit_rows, note, when
from openlaunch.cli.owners import with_owners

if TYPE_CHECKING:
    from openlaunch.wire.subscriptions import SubscriptionResponse

app = typer.Typer(help="Notifications of endpoints and jobs, sent to URLs.", no_args_is_help=True)


@app.command("create")
def create_subscription(
    context: typer.Context,
    url: Annotated[str, typer.Argument(help="Where notifications are sent, as JSON.")],
    event: Annotated[
        list[str] | None,
        typer.Option(
            help="endpoint_failed, endpoint_recovered, queue_old, queue_caught_up or batch_job_ended; "
            "may be given several times.  [default: all of them]"
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Have notifications sent to a URL, signed as callbacks are, and again until they are taken."""
    with connect(context) as client:
        made = client.create_subscription(url, event or None)
    emit(
        made, as_json, lambda: note(f"{made.url} gets notifications of {', '.join(made.events)} ({made.id})")
    )


@app.command("list")
def list_subscriptions(context: typer.Context, as_json: Json = False) -> None:
    """List where notifications are sent, and of what."""
    with connect(context) as client:
        found = client.list_subscriptions()
    columns = ("ID", "URL", "EVENTS", "CREATED")
    emit_rows(found, as_json, *with_owners(context, columns, _row, lambda each: each.owner))


def _row(each: "SubscriptionResponse") -> tuple[object, ...]:
    return each.id, each.url, ", ".join(each.events), when(each.created_at)


@app.command("delete")
def delete_subscription(
    context: typer.Context, subscription: Annotated[str, typer.Argument(help="The subscription's id.")]
) -> None:
    """Delete a subscription. What was to be sent already is sent."""
    with connect(context) as client:
        client.delete_subscription(subscription)
    note(f"the subscription {subscription} is deleted")

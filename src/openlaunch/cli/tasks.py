"""`openlaunch tasks`."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from operator import attrgetter
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from openlaunch.cli.completion import Name, endpoint_names
from openlaunch.cli.connection import connect
from openlaunch.cli.exits import Exit, plain
from openlaunch.cli.inputs import Args, arguments, json_object, pairs, read_text
from openlaunch.cli.output import (
    Json,
    as_json_text,
    as_printed,
    bar,
    emit,
    emit_rows,
    fields,
    note,
    progress,
    table,
    waiting,
    when,
)
from openlaunch.cli.owners import with_owners
from openlaunch.errors import NotFound, WaitTimeout

if TYPE_CHECKING:
    from openlaunch import EndpointRequest, EndpointResponse, EndpointResponseFuture
    from openlaunch.wire.tasks import TaskSummary

app = typer.Typer(help="Predictions: send them, and look at queued ones.", no_args_is_help=True)

Status = Literal["PENDING", "STARTED", "SUCCESS", "FAILURE"]
TaskId = Annotated[str, typer.Argument(help="The task's id.")]


@app.command("send")
def send_task(
    context: typer.Context,
    endpoint: Name,
    args: Args = None,
    args_file: Annotated[str | None, typer.Option(help="A file with that object; - is stdin.")] = None,
    url: Annotated[str | None, typer.Option(help="URL of a file whose bytes the function gets.")] = None,
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Wait for the result of an async task.")
    ] = True,
    timeout: Annotated[
        float | None, typer.Option(help="Longest wait, in seconds.  [default: none]", min=0)
    ] = None,
    pickled: Annotated[
        bool,
        typer.Option(
            "--pickled", help="Pickle the result, for values that are not JSON, and print the pickle's URL."
        ),
    ] = False,
    priority: Annotated[
        int,
        typer.Option(help="Priority of an async task, -100 to 100: your tasks with a higher one run first."),
    ] = 0,
    idempotency_key: Annotated[
        str | None,
        typer.Option(help="Run the requests with the same key once; the others get the first one's answer."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Send one prediction to an endpoint of any type, and print its result.

    A streaming endpoint's items are printed as they come, one per line. `--no-wait` prints an async task's id.
    """
    from openlaunch import AsyncEndpoint, StreamingEndpoint

    request = _request(args, args_file, url, pickled)
    request.priority, request.idempotency_key = priority, idempotency_key
    with connect(context) as client, _named_by_owner(endpoint):
        target = client.get_model_endpoint(endpoint)
        if isinstance(target, StreamingEndpoint):
            with target.predict(request, timeout=timeout) as stream:
                for response in stream:
                    _print_item(response, as_json)
        elif isinstance(target, AsyncEndpoint):
            future = target.predict(request)
            if not wait:
                emit({"task_id": future.async_task_id}, as_json, lambda: print(future.async_task_id))
                return
            task_id = future.async_task_id
            text = f"waiting for task {task_id} …"
            with waiting(text, f"openlaunch tasks get {task_id} --wait 60") as update:
                response = _awaited(future, timeout, update)
            _print_response(response, as_json)
        else:
            with progress(f"waiting for {endpoint} …"):
                response = target.predict(request, timeout=timeout)
            _print_response(response, as_json)


@contextmanager
def _named_by_owner(endpoint: str) -> Iterator[None]:
    """Say how admins call an endpoint of another owner: an admin who has found it may not do so yet."""
    try:
        yield
    except NotFound as error:
        owner, _, name = endpoint.rpartition("/")
        if owner:
            error.add_note(f"admins send it for the owner: {name} --owner {owner}")
        raise


def _awaited(
    future: "EndpointResponseFuture", timeout: float | None, update: Callable[[str], None]
) -> "EndpointResponse":
    """Wait for a task's result, and show how far it is on the way."""
    from openlaunch.client.operations.predictions import Following

    following = Following(future.async_task_id, timeout)
    while not following.done:
        seen = future.client.run(following.look())
        if seen.progress is not None:
            update(bar(seen.progress.fraction, seen.progress.text))
    return future.get()


def _request(
    args: list[str] | None, args_file: str | None, url: str | None, pickled: bool
) -> "EndpointRequest":
    from openlaunch import EndpointRequest

    if sum(option is not None for option in (args, args_file, url)) > 1:
        raise typer.BadParameter(
            "give one of --args, --args-file and --url, or none where the function takes nothing"
        )
    if url is not None:
        return EndpointRequest(url=url, return_pickled=pickled)
    if args_file is None:
        return EndpointRequest(args=arguments(args), return_pickled=pickled)
    text = read_text(args_file, "--args-file")
    return EndpointRequest(args=json_object(text, f"--args-file {args_file}"), return_pickled=pickled)


def _print_item(response: "EndpointResponse", as_json: bool) -> None:
    if response.status != "SUCCESS":
        _fail(response)
    value = {"result_url": response.result_url} if response.result_url is not None else response.value
    print(as_printed(value) if isinstance(value, str) and not as_json else as_json_text(value), flush=True)


def _print_response(response: "EndpointResponse", as_json: bool) -> None:
    if as_json:
        print(as_json_text(_document(response), indent=2))
        if response.status != "SUCCESS":
            raise typer.Exit(Exit.FAILED)
        return
    if response.status != "SUCCESS":
        _fail(response)
    if response.result_url is not None:
        print(response.result_url)
        return
    value = response.value
    print(as_printed(value) if isinstance(value, str) else as_json_text(value))


def _document(response: "EndpointResponse") -> dict[str, Any]:
    pickled = response.result_url is not None or response.result is None
    return {
        "status": response.status,
        "result": None if pickled else json.loads(response.result or "null"),
        "result_url": response.result_url,
        "traceback": response.traceback,
        "status_code": response.status_code,
    }


def _fail(response: "EndpointResponse") -> None:
    note((response.traceback or "no reason was given").rstrip())
    note("error: the prediction ended as FAILURE")
    raise typer.Exit(Exit.FAILED)


@app.command("get")
def get_task(
    context: typer.Context,
    task_id: TaskId,
    wait: Annotated[float, typer.Option(help="Seconds to wait for the result.", min=0)] = 0,
    as_json: Json = False,
) -> None:
    """Print a task's result, or its status while it has none. The exit code is 6 if `--wait` ran out."""
    with connect(context) as client:
        if wait > 0:
            with progress(f"waiting for task {task_id} …") as update, suppress(WaitTimeout):
                _awaited(client.future(task_id), wait, update)
        task = client.get_task(task_id)
        status, said = task.status.value, task.progress
        if status in ("SUCCESS", "FAILURE"):
            _print_response(client.future(task_id).get(), as_json)
            return
    shown = {"status": status} if said is None else {"status": status, "progress": said.model_dump()}
    emit(
        shown,
        as_json,
        lambda: print(status if said is None else f"{status} {bar(said.fraction, plain(said.text))}"),
    )
    if wait > 0:
        raise WaitTimeout(f"the task {task_id} is {status} after {wait:g} seconds")


@app.command("why")
def explain_task(context: typer.Context, task_id: TaskId, as_json: Json = False) -> None:
    """Show why a task is pending: its place in the queue, and what holds its endpoint up."""
    with connect(context) as client:
        why = client.explain_task(task_id)
    emit(why, as_json, lambda: print(f"{why.status.value}: {plain(why.message)}"))


@app.command("list")
def list_tasks(
    context: typer.Context,
    endpoint: Annotated[
        str | None, typer.Option(help="Only tasks of this endpoint.", autocompletion=endpoint_names)
    ] = None,
    status: Annotated[Status | None, typer.Option(help="Only tasks with this status.")] = None,
    failed: Annotated[bool, typer.Option("--failed", help="The same as --status FAILURE.")] = False,
    label: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUE", help="Only tasks of endpoints with this label; may be given several times."
        ),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(
            help="Only tasks that were submitted from then on: how long ago (90s, 10m, 2h, 1d), or a time."
        ),
    ] = None,
    until: Annotated[
        str | None, typer.Option(help="Only tasks that were submitted before that; written as --since.")
    ] = None,
    limit: Annotated[int, typer.Option(help="Most tasks to show.", min=1, max=1000)] = 100,
    cursor: Annotated[
        str | None, typer.Option(help="Continue after the previous page, with the cursor that it printed.")
    ] = None,
    as_json: Json = False,
) -> None:
    """List your tasks, newest first. Failed ones can be inspected (`show`) and run again (`rerun`)."""
    if failed and status not in (None, "FAILURE"):
        raise typer.BadParameter(f"--failed and --status {status} are both given: give one of them")
    wanted = "FAILURE" if failed else status
    with connect(context) as client:
        page = client.list_tasks(
            endpoint, wanted, limit, cursor, labels=pairs(label, "--label"), since=since, until=until
        )
    names = ("TASK", "ENDPOINT", "STATUS", "CODE", "ATTEMPTS", "CREATED", "FINISHED", "REASON")
    columns, row = with_owners(context, names, _row, attrgetter("owner"))
    optional = ("ATTEMPTS", "FINISHED", "CODE", "CREATED")
    emit(page, as_json, lambda: table(columns, map(row, page.tasks), optional))
    if page.next_cursor is not None and not as_json:
        note(f"there are more: --cursor {page.next_cursor}")


def _row(task: "TaskSummary") -> tuple[object, ...]:
    times = when(task.created_at), when(task.finished_at)
    status, code = task.status.value, task.status_code
    return task.task_id, _endpoint(task), status, code, task.attempts, *times, task.reason


def _endpoint(task: "TaskSummary") -> str:
    return task.model_endpoint_name or f"{task.model_endpoint_id} (deleted)"


@app.command("show")
def show_task(context: typer.Context, task_id: TaskId, as_json: Json = False) -> None:
    """Show everything about a task: its input, its attempts, and why it failed."""
    with connect(context) as client:
        details, task = client.get_task_details(task_id), client.get_task(task_id)
        try:
            payload = client.get_task_payload(task_id)
        except NotFound:  # it is not kept
            payload = None
    document = {**details.model_dump(mode="json"), "traceback": task.traceback, "payload": payload}
    shown = (
        ("task", details.task_id),
        ("endpoint", _endpoint(details)),
        ("status", details.status.value),
        ("status code", details.status_code),
        ("attempts", details.attempts),
        ("created", when(details.created_at)),
        ("finished", when(details.finished_at)),
        ("reason", details.reason),
        ("payload", None if payload is None else json.dumps(payload, ensure_ascii=False)),
        ("traceback", task.traceback),
    )
    emit(document, as_json, lambda: fields(shown))


@app.command("rerun")
def rerun_tasks(
    context: typer.Context,
    task_ids: Annotated[list[str], typer.Argument(help="The tasks' ids.")],
    as_json: Json = False,
) -> None:
    """Run tasks that failed or were cancelled once more, each as a new task."""
    again: dict[str, str] = {}
    with connect(context) as client:
        try:
            for task_id in task_ids:
                if task_id not in again:
                    again[task_id] = client.rerun_task(task_id).async_task_id
        finally:  # those before one that can't be run again do run
            if again:
                made = [{"task_id": task_id, "new_task_id": new} for task_id, new in again.items()]
                emit_rows(made, as_json, ("TASK", "RUNS AGAIN AS"), lambda each: tuple(each.values()))


@app.command("cancel")
def cancel_tasks(
    context: typer.Context,
    task_ids: Annotated[list[str], typer.Argument(help="The tasks' ids.")],
    as_json: Json = False,
) -> None:
    """Cancel tasks: waiting ones are dropped, running ones are stopped."""
    with connect(context) as client:
        cancelled_by_id = {task_id: client.cancel_task(task_id) for task_id in dict.fromkeys(task_ids)}
    done = [{"task_id": task_id, "cancelled": cancelled} for task_id, cancelled in cancelled_by_id.items()]
    outcomes = {True: "cancelled", False: "was done"}
    emit_rows(done, as_json, ("TASK", "OUTCOME"), lambda e: (e["task_id"], outcomes[e["cancelled"]]))


@app.command("deliveries")
def list_deliveries(context: typer.Context, task_id: TaskId, as_json: Json = False) -> None:
    """Show whether a task's callback was accepted, and every attempt to send it."""
    with connect(context) as client:
        found = client.list_deliveries(task_id)
    rows: list[tuple[object, ...]] = [
        (d.url, d.status.value, when(a.at), a.status_code, a.error) for d in found for a in d.attempts
    ]
    rows += [(d.url, d.status.value, None, None, None) for d in found if not d.attempts]
    emit(found, as_json, lambda: table(("URL", "STATUS", "ATTEMPT", "CODE", "ERROR"), rows, ("ATTEMPT",)))


@app.command("resend")
def resend_callback(context: typer.Context, task_id: TaskId, as_json: Json = False) -> None:
    """Send a task's callback once more, now."""
    with connect(context) as client:
        delivery = client.resend_callback(task_id)
    emit(delivery, as_json, lambda: note(f"the callback to {delivery.url} is sent again"))

"""Writes what was measured: results.json, RESULTS.md, and the chart that the README shows."""

import json
import os
import platform
import statistics
from html import escape
from typing import Any

from benchmarks.harness.environments import ROOT

FOLDER = ROOT / "benchmarks"
FILE = FOLDER / "results.json"

HEAD = """# Results

Written by `make bench`; [README](README.md) says how it is measured. Machine: {machine}.

A share is a system's rate divided by the reference's, measured in turns on the same machine: the median of the
rounds, and the lowest and highest in brackets.
"""

BAR = 420
ROW = 26
LEFT = 330


def load() -> dict[str, Any]:
    """The last results, if there are any."""
    return json.loads(FILE.read_text()) if FILE.exists() else {}


def save(results: dict[str, Any]) -> None:
    """Write all three files."""
    results["machine"] = f"{os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}"
    FILE.write_text(json.dumps(results, indent=1) + "\n")
    parts = [HEAD.format(machine=results["machine"])]
    for name, write in (
        ("sync", _sync),
        ("model", _model),
        ("streams", _streams),
        ("models", _models),
        ("queues", _queues),
        ("postgres", _postgres),
        ("clients", _clients),
        ("starts", _starts),
        ("growth", _growth),
        ("nodes", _nodes),
        ("faults", _faults),
    ):
        if name in results:
            parts.append(write(results[name]))
        if name == "starts" and {"starts", "sync"} <= results.keys():
            parts.append(_whole_starts(results["sync"]))
    (FOLDER / "RESULTS.md").write_text("\n".join(parts))
    if "sync" in results:
        (FOLDER / "results.svg").write_text(_chart(results))


def _table(header: list[str], rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(header) + " |", "|---|" + "--:|" * (len(header) - 1)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)]) + "\n"


def _share(row: dict[str, Any]) -> str:
    return f"**{row['share']:.3f}** ({row['share_low']:.3f}-{row['share_high']:.3f})"


def _versions(rows: list[dict[str, Any]]) -> str:
    found = {name: version for row in rows for name, version in row.get("versions", {}).items()}
    return "Versions: " + ", ".join(f"{name} {version}" for name, version in found.items()) + ".\n"


def _sync(rows: list[dict[str, Any]]) -> str:
    header = [
        "system",
        "requests/s",
        "share",
        "CPU µs",
        "p50 ms, 1 connection",
        "p99 ms",
        "MiB",
        "processes",
        "start s",
    ]
    cells = [
        [
            row["label"],
            f"{row['rate']:,.0f}",
            _share(row),
            f"{row['cpu_us']:,.0f}",
            f"{row['p50']:.2f} ({row['p50_ratio']:.1f}x)",
            f"{row['p99']:.2f} ({row['p99_ratio']:.1f}x)",
            f"{row['memory_mib']:.0f}",
            str(row["processes"]),
            f"{row['start_seconds']:.1f}",
        ]
        for row in rows
    ]
    text = "\n## Sync predictions, null model, 32 connections\n\n"
    note = (
        "The whole path: key, endpoint, queue, worker process and back; the reference has none of it. `x` is the "
        "multiple of the reference's. The start of Openlaunch has its environment's build in it.\n\n"
    )
    return text + note + _table(header, cells) + "\n" + _versions(rows)


def _model(rows: list[dict[str, Any]]) -> str:
    header = ["system", "requests/s", "share", "CPU µs", "p99 ms", "p50 ms, 1 connection", "MiB", "processes"]
    cells = [
        [
            row["label"],
            f"{row['rate']:,.0f}",
            _share(row),
            f"{row['cpu_us']:,.0f}",
            f"{row['p99_loaded']:.1f}",
            f"{row['p50']:.2f} ({row['p50_ratio']:.1f}x)",
            f"{row['memory_mib']:.0f}",
            str(row["processes"]),
        ]
        for row in rows
    ]
    text = "\n## Sync predictions, a random forest over scikit-learn's digits, 32 connections\n\n"
    note = (
        "One image a request. The reference calls the model in its own process, one image at a time, so a share over "
        "1 is what batching gains. Batches are of up to 32 and wait 5 ms for that, which on one connection is in "
        "vain; BentoML's wait adapts itself.\n\n"
    )
    return text + note + _table(header, cells) + "\n" + _versions(rows)


def _streams(rows: list[dict[str, Any]]) -> str:
    header = ["system", "chunks/s", "share", "first chunk p50 ms, 1 stream", "p99 ms"]
    cells = [
        [
            row["label"],
            f"{row['rate']:,.0f}",
            _share(row),
            f"{row['first_p50']:.2f} ({row['first_ratio']:.1f}x)",
            f"{row['first_p99']:.2f}",
        ]
        for row in rows
    ]
    return "\n## Streams of 100 null chunks, 16 at once\n\n" + _table(header, cells) + "\n" + _versions(rows)


def _models(rows: list[dict[str, Any]]) -> str:
    header = [
        *("server", "tokens/s", "share", "CPU µs a token", "first token p50 ms, 1 stream", "64 at once"),
        *("p99 ms", "tokens/s, 1 ms steps", "share", "CPU µs a token"),
    ]
    cells = [
        [
            row["label"],
            f"{row['rate']:,.0f}",
            _share(row),
            f"{row['cpu_us']:.0f}",
            f"{row['first_one']:.2f} (+{row['added_one']:.2f})",
            f"{row['first_many']:.1f} (+{row['added_many']:.1f})",
            f"{row['first_many_p99']:.1f}",
            f"{row['full_rate']:,.0f}",
            f"{row['full_share']:.2f}",
            f"{row['full_cpu_us']:.0f}",
        ]
        for row in rows
    ]
    note = (
        "An engine without a model, whose first token comes at once, and then one each 10 ms to every stream. CPU is "
        "that of all processes between client and engine. `+` is on top of the engine's.\n\n"
    )
    text = "\n## Language models: 64 streams of 100 tokens, at 100 tokens a second\n\n"
    return text + note + _table(header, cells) + "\n" + _versions(rows)


def _queues(rows: list[dict[str, Any]]) -> str:
    return (
        "\n## Durable tasks, null model, 10,000 of them until every result is known\n\n"
        "Openlaunch: through HTTP from our client, each task on disk (`synchronous=FULL`) before it is accepted. "
        "Redis appends every second, so it may lose a second of accepted tasks.\n\n"
        f"{_queue_table(rows)}\n{_versions(rows)}"
    )


def _postgres(seen: dict[str, Any]) -> str:
    rows = seen["rows"]
    best = max(row["rate"] for row in rows[2:])
    least, most = seen["load"]
    return (
        "\n## Durable tasks on PostgreSQL\n\n"
        "All on one server with `fsync` and `synchronous_commit` on, and ours on SQLite beside them, in turns. Ours "
        f"are {seen['tasks']:,} tasks through HTTP; of the peers' own clients PgQueuer gets a fifth of that, the "
        "others a tenth. "
        f"Openlaunch on PostgreSQL has {rows[1]['rate'] / rows[0]['rate']:.2f} of its rate on SQLite, and "
        f"{rows[1]['rate'] / best:.1f} times the best of the peers'. The machine's load was {least:.1f} to "
        f"{most:.1f}. The benchmark itself makes up to 4. With more than that, other programs kept it busy, and the "
        "rates are to be compared with each other alone.\n\n"
        f"{_queue_table(rows)}\n{_versions(rows)}"
    )


def _queue_table(rows: list[dict[str, Any]]) -> str:
    header = ["queue", "tasks/s", "runs", "submitted/s", "idle round trip p50 ms", "p99 ms"]
    cells = [
        [
            row["label"],
            f"**{row['rate']:,.0f}**",
            ", ".join(f"{rate:,.0f}" for rate in row["rates"]),
            f"{row['submit_rate']:,.0f}",
            f"{row['p50']:.2f}",
            f"{row['p99']:.2f}",
        ]
        for row in rows
    ]
    return _table(header, cells)


def _clients(seen: dict[str, float]) -> str:
    rows = [
        ["bare `http.client` to the reference", f"{seen['http.client']:.0f}", "1"],
        [
            "`endpoint.predict()`, whole round trip through a worker",
            f"{seen['blocking']:.0f}",
            f"{seen['blocking'] / seen['http.client']:.2f}",
        ],
        ["aiohttp to the reference, 32 at once", f"{seen['aiohttp']:.0f}", "1"],
        [
            "`await endpoint.predict()`, 32 at once",
            f"{seen['awaitable']:.0f}",
            f"{seen['awaitable'] / seen['aiohttp']:.2f}",
        ],
    ]
    return "\n## Clients\n\n" + _table(["client", "µs a request", "ratio"], rows)


def _starts(seen: dict[str, Any]) -> str:
    rows = [
        [label, f"{statistics.median(seen[name]):.1f}", f"{min(seen[name]):.1f}-{max(seen[name]):.1f}"]
        for name, label in (
            ("warm", "request to an endpoint scaled to zero, until its answer"),
            ("cold", "the same, the first worker of a server"),
            ("uv", "uv alone: a new environment with scikit-learn, its cache warm"),
            ("endpoint", 'a new endpoint with `requirements=["scikit-learn"]`, until it is READY'),
            ("further", "a further worker, from a request that finds the only one busy, until its answer"),
        )
    ]
    server, worker = seen["server_mib"], seen["worker_mib"]
    memory = f"\nMemory (PSS): idle server {server:.0f} MiB, one more null worker {worker:.1f} MiB.\n"
    text = "\n## Cold starts, null bundle, environment there\n\n"
    return text + _table(["what", "median ms", "range"], rows) + memory


def _whole_starts(rows: list[dict[str, Any]]) -> str:
    """What the peers have beside: most of them start a worker only with the whole server."""
    cells = [[row["label"], f"{1000 * row['start_seconds']:,.0f}"] for row in rows]
    return "\n" + _table(["start of the whole system with one model, until its first answer", "ms"], cells)


def _growth(seen: dict[str, list[dict[str, float]]]) -> str:
    endpoints = [
        [f"{row['endpoints']:,}", f"{row['predict_us']:,.0f}", f"{row['server_mib']:.0f}"]
        for row in seen["endpoints"]
    ]
    workers = [
        [f"{row['workers']:,}", f"{row['predict_us']:,.0f}", f"{row['server_mib']:.0f}"]
        for row in seen["workers"]
    ]
    payloads = [
        [f"{row['kib']:,} KiB", f"{row['predict_us']:,.0f}", f"{row['peak_mib']:.1f}"]
        for row in seen["payloads"]
    ]
    tasks = [
        [f"{row['queued']:,}", f"{row['round_trip_us']:,.0f}", f"{row['server_mib']:.0f}"]
        for row in seen["tasks"]
    ]
    streams = [
        [f"{row['streams']:,}", f"{row['seconds']:.2f}", f"{row['server_mib']:.0f}"]
        for row in seen["streams"]
    ]
    return (
        "\n## How cost grows\n\nEach cost is of the same calls from our blocking client, one after the other.\n\n"
        + _table(["endpoints registered", "µs a prediction", "server MiB"], endpoints)
        + "\n"
        + _table(["workers of the endpoint", "µs a prediction", "server MiB"], workers)
        + "\n"
        + _table(["tasks queued", "µs a round trip through another queue", "server MiB"], tasks)
        + "\n"
        + _table(["bytes of a request", "µs a prediction", "server MiB on top, at most"], payloads)
        + "\n"
        + _table(["streams open at once, of 3 s each", "s until all have ended", "server MiB"], streams)
    )


def _nodes(seen: dict[str, Any]) -> str:
    cost = [("server_us", "{:.0f}"), ("agents_us", "{:.0f}")]

    def cells(row: dict[str, float], *shown: tuple[str, str]) -> list[str]:
        return [text.format(row[name]) for name, text in shown]

    one = seen["nodes"][0]["rate"]
    nodes = [
        [
            *cells(row, ("nodes", "{:.0f}"), ("rate", "{:,.0f}"), ("ideal", "{:,.0f}")),
            f"{row['rate'] / one / row['nodes']:.2f}",
            *cells(row, *cost),
        ]
        for row in seen["nodes"]
    ]
    hop = [
        [
            "on a node" if row["nodes"] else "the server's own",
            *cells(row, ("connections", "{:.0f}"), ("p50", "{:.2f}"), ("rate", "{:,.0f}"), *cost),
        ]
        for row in seen["hop"]
    ]
    endpoints = [
        cells(row, ("endpoints", "{:,.0f}"), ("rate", "{:,.0f}"), *cost) for row in seen["endpoints"]
    ]
    of_cpu = ["µs of the server", "µs of agents"]
    return (
        "\n## Workers on nodes\n\nServer, agents, workers and load are on this machine, over the loopback, and share "
        "its cores. A node has one worker of 32 slots, whose work takes 50 ms.\n\n"
        + _table(["nodes", "requests/s", "at most", "of one node's, each", *of_cpu], nodes)
        + "\nThe hop: a null model, its worker on a node and beside the server.\n\n"
        + _table(["worker", "connections", "p50 ms", "requests/s", *of_cpu], hop)
        + "\n"
        + _table(["endpoints registered", "requests/s", *of_cpu], endpoints)
        + _servers_and_workers(seen)
    )


def _servers_and_workers(seen: dict[str, Any]) -> str:
    servers = [
        [f"{row['servers']}", f"{row['rate']:,.0f}", f"{row['server_us']:.0f}"] for row in seen["servers"]
    ]
    where = ("beside the server", "on a node")
    bodies = [
        [where[row["nodes"]], f"{row['ms']:.0f}", f"{row['server']:.1f}", f"{row['agent']:.1f}"]
        for row in seen["bodies"]
    ]
    further = [(f"a further worker {where[row['nodes']]}", row["ms"]) for row in seen["further"]]
    actors = [("an actor of Ray, from its order to its first answer", seen["actors"])]
    starts = [
        [what, f"{statistics.median(ms):,.0f}", f"{min(ms):,.0f}-{max(ms):,.0f}"]
        for what, ms in further + actors
    ]
    return (
        "\nServers on one database (PostgreSQL), with one node and 16 connections to each:\n\n"
        + _table(["servers", "requests/s of all", "µs of a server"], servers)
        + "\nA body of 10 MiB and a number as its answer; memory is what comes on top at the peak, in bodies:\n\n"
        + _table(["worker", "ms", "the server", "the agent"], bodies)
        + "\nA further worker, from a request that finds the only one busy to its answer:\n\n"
        + _table(["", "median ms", "from-to"], starts)
    )


def _faults(seen: list[dict[str, Any]]) -> str:
    said = {
        "controller": "the controller (ours: the server that leads, which also answers half of the requests)",
        "node": "a node with a worker",
        "head": "Ray's head, and what ends with it a minute later",
    }
    rows = [
        [
            said[row["fault"]],
            *(
                text.format(row[system][name])
                for system in ("ours", "serve")
                for name, text in (("failed", "**{:,.0f}**"), ("answered", "{:,.0f}"), ("gap", "{:.1f}"))
            ),
        ]
        for row in seen
    ]
    head = ["failed", "answered", "longest s without an answer"]
    return (
        "\n## What fails while processes are killed\n\nA Ray cluster of a head and two nodes on this machine, with a "
        "worker or replica on each node, and eight callers. All processes of what is named are killed with SIGKILL. "
        "Openlaunch has two servers, and Ray's scheduler places its workers; Ray Serve has a proxy on each node. "
        "Neither has Redis: Ray's head keeps its records in memory. Requests are counted for 15 s after each of the "
        "first two faults, and for 75 s after the last.\n\n"
        + _table(
            ["killed", *(f"Openlaunch: {each}" for each in head), *(f"Ray Serve: {each}" for each in head)],
            rows,
        )
    )


def _chart(results: dict[str, Any]) -> str:
    """Bars of the sync, streaming and queue rates, each against its best."""
    groups = [("Sync requests/s, 32 connections", results["sync"])]
    if "model" in results:
        groups.append(("Digits, random forest, requests/s, 32 connections", results["model"]))
    if "streams" in results:
        groups.append(("Stream chunks/s, 16 streams", results["streams"]))
    if "queues" in results:
        groups.append(("Durable tasks/s", results["queues"]))
    parts, y = [], 10
    for title, rows in groups:
        y += 24
        parts.append(f'<text x="8" y="{y}" class="title">{escape(title)}</text>')
        y += 10
        best = max(row["rate"] for row in rows)
        for row in sorted(rows, key=lambda row: -row["rate"]):
            label = row["label"].replace("*", "").replace("`", "")
            kind = "ours" if "Openlaunch" in label else "reference" if "reference" in label else "peer"
            width = max(2, BAR * row["rate"] / best)
            parts.append(
                f'<text x="{LEFT - 8}" y="{y + 17}" class="label">{escape(label)}</text>'
                f'<rect x="{LEFT}" y="{y + 4}" width="{width:.0f}" height="{ROW - 8}" class="{kind}"/>'
                f'<text x="{LEFT + width + 6:.0f}" y="{y + 17}" class="value">{row["rate"]:,.0f}</text>'
            )
            y += ROW
    style = (
        "text{font:13px sans-serif;fill:#222}.title{font-weight:bold}.label{text-anchor:end}"
        ".ours{fill:#2563eb}.peer{fill:#cbd5e1}.reference{fill:#64748b}"
    )
    width, height = LEFT + BAR + 90, y + 14
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}"><style>{style}</style>'
        f'<rect width="{width}" height="{height}" fill="#fff"/>{"".join(parts)}</svg>\n'
    )

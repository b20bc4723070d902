"""The layout of the code: imports run down only, without circles, and one file names the drivers."""

import ast
from functools import cache
from pathlib import Path

import pytest

SRC = Path(__file__).parents[2] / "src"

PACKAGES = [
    "cli",
    "agent",
    "server",
    "controller",
    "nodes",
    "engines",
    "tasks",
    "store",
    "artifacts",
    "log_files",
    "trash",
    "background",
    "turns",
]
"""From the top down: each imports only those below it, and the client's side below all of them."""

CLIENT_SIDE = ["testing", "aio", "hooks", "model_bundle", "model_endpoint", "", "client", "wire", "errors"]
"""What a program of a user imports, from the top down; "" is the package itself."""

ROOMS = [
    *("serve", "shutdown", "first_key", "http_parts", "parts", "drivers", "leading"),
    *("page", "control", "jobs", "gateway", "queue", "endpoints", "dispatch", "cluster"),
    *("prediction", "access", "operations", "metrics"),
    *("proxies", "settings", "clock", "accept", "logs", "spans", "span_export", "asgi", "bodies"),
]
"""The rooms of `server`, from the top down."""

NAMED_DRIVERS = {
    "openlaunch.artifacts.bucket": {"openlaunch.server.drivers"},
    "openlaunch.artifacts.folder": {"openlaunch.server.drivers"},
    "openlaunch.engines.local": {"openlaunch.server.drivers"},
    "openlaunch.nodes.engine": {"openlaunch.server.drivers"},
    "openlaunch.nodes.ray_client": set(),
    "openlaunch.nodes.ray_placement": {"openlaunch.server.drivers"},
    "openlaunch.store.postgres": {"openlaunch.server.drivers"},
    "openlaunch.store.postgres_cluster": {"openlaunch.server.drivers"},
    "openlaunch.store.postgres_problems": set(),
    "openlaunch.store.postgres_queue": set(),
    "openlaunch.store.postgres_session": set(),
    "openlaunch.store.sqlite": {"openlaunch.server.drivers"},
    "openlaunch.store.sqlite_files": {"openlaunch.server.operations.backup"},
    "openlaunch.store.sqlite_queue": set(),
}
"""Who names each driver outside its family: the composition root, and a backup of the files of a data directory."""


def modules():
    """Every module of the source, by name."""
    found = {}
    for path in SRC.rglob("*.py"):
        parts = path.relative_to(SRC).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def found_in(name):
    """What of ours a module names in its imports, wherever in the file."""
    for node in ast.walk(ast.parse(MODULES[name].read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in MODULES)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (each if each in MODULES else node.module for each in names)


@cache
def imports(name):
    """The modules of ours that a module imports; to look for those of all takes a second."""
    return {found for found in found_in(name) if found in MODULES} - {name}


def package_of(name):
    top, *rest = name.split(".")
    return "worker" if top == "openlaunch_worker" else rest[0] if rest else ""


def upward(order, place_of, names):
    """The imports that run against the order, as text."""
    return sorted(
        f"{name} imports {found}"
        for name in names
        for found in imports(name)
        if place_of(found) in order and order.index(place_of(found)) < order.index(place_of(name))
    )


def test_packages_import_only_what_is_below_them():
    order = [*PACKAGES, *CLIENT_SIDE]
    names = [name for name in MODULES if package_of(name) in PACKAGES]
    assert upward(order, package_of, names) == []


def test_the_client_side_imports_nothing_of_the_server():
    names = [name for name in MODULES if package_of(name) in CLIENT_SIDE]
    assert upward([*PACKAGES, *CLIENT_SIDE], package_of, names) == []


def test_engines_are_known_by_their_protocol_and_its_data_alone():
    outside = [
        name for name in MODULES if package_of(name) != "engines" and name != "openlaunch.server.drivers"
    ]
    known = {found for name in outside for found in imports(name) if package_of(found) == "engines"}
    assert known == {f"openlaunch.engines.{name}" for name in ("base", "documents", "gpu_fit")}


def test_every_package_has_its_place():
    assert {package_of(name) for name in MODULES} == {*PACKAGES, *CLIENT_SIDE, "worker"}


def test_rooms_of_the_server_import_only_what_is_below_them():
    def room(name):
        parts = name.split(".")
        return parts[2] if parts[:2] == ["openlaunch", "server"] and len(parts) > 2 else None

    names = [name for name in MODULES if room(name)]
    assert {room(name) for name in names} <= set(ROOMS)
    assert upward(ROOMS, room, names) == []


def test_the_worker_runtime_imports_nothing_of_ours():
    names = [name for name in MODULES if package_of(name) == "worker"]
    assert [found for name in names for found in imports(name) if package_of(found) != "worker"] == []


@pytest.mark.parametrize("driver", sorted(NAMED_DRIVERS))
def test_only_the_composition_root_names_a_driver(driver):
    assert driver in MODULES
    family = driver.rpartition(".")[0]
    named = {name for name in MODULES if driver in imports(name) and not name.startswith(f"{family}.")}
    assert named == NAMED_DRIVERS[driver]


def circle_from(start):
    """A way along imports from a module back to itself, if there is one."""
    ways, seen = [[start]], set()
    while ways:
        way = ways.pop()
        for found in imports(way[-1]):
            if found == start:
                return way
            if found not in seen:
                seen.add(found)
                ways.append([*way, found])
    return []


def test_no_import_runs_in_a_circle():
    assert {name for name in MODULES if circle_from(name)} == set()


TIME_OF_DAY = {
    *(
        "server.clock",
        "server.access.auth",
        "server.access.key_use",
        "server.control.routes.artifacts",
        "server.control.routes.triggers",
        "engines.uv_caches",
    ),
    *(
        "server.dispatch.link_server",
        "server.jobs.triggers",
        "server.operations.backup",
        "server.operations.unused",
        "server.prediction.results",
        "server.queue.callbacks",
    ),
}
"""Who goes by the time of day, for what `server/clock.py` names; what else is stored goes by its clock."""


def test_durable_times_go_by_one_clock():
    server_side = [name for name in MODULES if package_of(name) in set(PACKAGES) - {"cli"}]
    using = {name for name in server_side if "time.time" in MODULES[name].read_text()}
    assert using == {f"openlaunch.{name}" for name in TIME_OF_DAY}

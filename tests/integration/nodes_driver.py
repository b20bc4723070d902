"""What the tests of nodes share: models that say where they run, and what the server says of its nodes."""

from contextlib import contextmanager

from server_driver import args, http
from threads import Threads


def where(seconds: float = 0.0) -> str:
    import os
    import time

    time.sleep(seconds)
    return os.getcwd()


def noted(log: str, gate: str, value: int) -> int:
    """Notes that it runs, and ends once there is a gate."""
    import time
    from pathlib import Path

    with Path(log).open("a") as file:
        file.write("ran\n")
    while not Path(gate).exists():
        time.sleep(0.01)
    return value


def counted(log: str, to: int, gate: str, size: int = 0):
    """Notes that it runs and stops, and gives three numbers, and the rest once there is a gate."""
    import time
    from pathlib import Path

    with Path(log).open("a") as file:
        file.write("ran\n")
    try:
        for number in range(to):
            while number >= 3 and not Path(gate).exists():
                time.sleep(0.01)
            yield f"{number} {'x' * size}"
    finally:
        with Path(log).open("a") as file:
            file.write("stopped\n")


def count(n: int):
    import time

    for number in range(n):
        yield number
        time.sleep(0.05)


@contextmanager
def nothing_fails(endpoint, at_once=3):
    """Requests are sent all the time, some at once, and each is answered."""

    def ask(_):
        assert endpoint.predict(args(seconds=0.02)).status == "SUCCESS"

    with Threads(*[ask] * at_once) as load:
        yield
    assert load.errors == []


def node_of(agents, place):
    """The agent below whose folder a worker is."""
    return next(agent for agent in agents if place.startswith(str(agent.folder.resolve())))


def checks(client):
    with http(client) as raw:
        return {each["name"]: each for each in raw.get("/readyz").json()["checks"]}


def counting(log):
    """A model that writes a line as it is loaded, and one as it runs."""

    def load():
        with log.open("a") as file:
            file.write("loaded\n")

    def square(_model, n, seconds=0.0):
        import time

        with log.open("a") as file:
            file.write(f"runs {n}\n")
        time.sleep(seconds)
        return n * n

    return load, square


def lines(log):
    return log.read_text().splitlines() if log.exists() else []


def slow_to_load(log, seconds):
    """A model that takes a while to load."""

    def load():
        import time

        for line in ("begins", "loaded"):
            with log.open("a") as file:
                file.write(f"{line}\n")
            if line == "begins":
                time.sleep(seconds)

    return load, lambda _model: "done"


def endless(log):
    """A model that streams texts of a size, without an end."""

    def load():
        with log.open("a") as file:
            file.write("loaded\n")

    def stream(_model, size):
        while True:
            yield "x" * size

    return load, stream

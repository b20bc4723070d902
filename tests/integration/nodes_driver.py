"""What the tests of nodes share: models that say where they run, and what the server says of its nodes."""

from server_driver import http


def where(seconds: float = 0.0) -> str:
    import os
    import time

    time.sleep(seconds)
    return os.getcwd()


def count(n: int):
    import time

    for number in range(n):
        yield number
        time.sleep(0.05)


def node_of(agents, place):
    """The agent below whose folder a worker is."""
    return next(agent for agent in agents if place.startswith(str(agent.folder.resolve())))


def checks(client):
    with http(client) as raw:
        return {each["name"]: each for each in raw.get("/readyz").json()["checks"]}

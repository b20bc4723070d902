"""Dramatiq on Redis, one process of eight threads."""

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

broker = RedisBroker(url="redis://127.0.0.1:6399/2")
broker.add_middleware(Results(backend=RedisBackend(url="redis://127.0.0.1:6399/3")))
dramatiq.set_broker(broker)


@dramatiq.actor(store_results=True)
def null(x, y):
    return x * 2 + len(y)


def submit():
    return null.send(2, "hello")


def result(handle):
    return handle.get_result(block=True, timeout=60_000)

"""Huey on SQLite, one thread."""

import os

from huey import SqliteHuey

huey = SqliteHuey(filename=os.environ["BENCH_QUEUE_FILE"])


@huey.task()
def null(x, y):
    return x * 2 + len(y)


def submit():
    return null(2, "hello")


def result(handle):
    return handle.get(blocking=True, timeout=60)

"""Celery on Redis, two processes."""

from celery import Celery

app = Celery("celery_tasks", broker="redis://127.0.0.1:6399/0", backend="redis://127.0.0.1:6399/1")


@app.task
def null(x, y):
    return x * 2 + len(y)


def submit():
    return null.delay(2, "hello")


def result(handle):
    return handle.get(timeout=60)

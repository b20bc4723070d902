from worker_driver import Worker, returning


def test_async_def():
    async def predict(x: int) -> int:
        return x + 1

    with Worker(returning(predict)) as worker:
        worker.ready()
        assert worker.value(x=1) == 2


def test_plain_function():
    def predict(x: int) -> int:
        return x + 1

    with Worker(returning(predict)) as worker:
        worker.ready()
        assert worker.value(x=1) == 2

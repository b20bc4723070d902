"""taskiq on Redis streams, one process; its client's poll is turned down from 200 ms to 2."""

from taskiq_redis import RedisAsyncResultBackend, RedisStreamBroker

broker = RedisStreamBroker(url="redis://127.0.0.1:6399/5").with_result_backend(
    RedisAsyncResultBackend(redis_url="redis://127.0.0.1:6399/6")
)


@broker.task
async def null(x: int, y: str) -> int:
    return x * 2 + len(y)


async def submit():
    return await null.kiq(2, "hello")


async def round_trip():
    return (await (await submit()).wait_result(check_interval=0.002, timeout=60)).return_value


async def results(handles):
    return [(await handle.wait_result(check_interval=0.01, timeout=60)).return_value for handle in handles]


async def begin():
    await broker.startup()

"""Ray Serve: one replica."""

import os
import time

import ray
from ray import serve
from starlette.requests import Request
from starlette.responses import StreamingResponse


@serve.deployment(num_replicas=1, max_ongoing_requests=100)
class Null:
    async def __call__(self, request: Request):
        if request.url.path == "/stream":

            async def chunks():
                for i in range(100):
                    yield f'data: {{"i": {i}}}\n\n'

            return StreamingResponse(chunks(), media_type="text/event-stream")
        args = (await request.json())["args"]
        return {"result": args["x"] * 2 + len(args["y"])}


ray.init(
    "local", num_cpus=2, include_dashboard=False, logging_level="warning", object_store_memory=500_000_000
)
serve.start(http_options={"host": "127.0.0.1", "port": int(os.environ["BENCH_PORT"])})
serve.run(Null.bind(), route_prefix="/")
while True:
    time.sleep(60)

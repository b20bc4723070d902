"""LitServe: one worker. `server.py predict|stream`."""

import os
import sys

import litserve


class Null(litserve.LitAPI):
    def setup(self, device):
        pass

    def decode_request(self, request):
        return request["args"]

    def predict(self, args):
        return args["x"] * 2 + len(args["y"])

    def encode_response(self, output):
        return {"result": output}


class Stream(Null):
    def predict(self, args):
        yield from range(100)

    def encode_response(self, outputs):
        for i in outputs:
            yield f'data: {{"i": {i}}}\n\n'


if __name__ == "__main__":
    api = Stream(stream=True) if sys.argv[1] == "stream" else Null()
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1)
    server.run(
        host="127.0.0.1",
        port=int(os.environ["BENCH_PORT"]),
        generate_client_file=False,
        log_level="warning",
        access_log=False,
    )

"""LitServe with the real model: `digits_server.py single|batched`."""

import os
import sys

import digits
import litserve


class Digits(litserve.LitAPI):
    def setup(self, device):
        self.model = digits.load()

    def decode_request(self, request):
        return request["args"]["image"]

    def predict(self, image):
        return digits.classify(self.model, [image])[0]

    def encode_response(self, output):
        return {"result": output}


class BatchedDigits(Digits):
    def predict(self, images):
        return digits.classify(self.model, images)


if __name__ == "__main__":
    api = BatchedDigits(max_batch_size=32, batch_timeout=0.005) if sys.argv[1] == "batched" else Digits()
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1)
    server.run(
        host="127.0.0.1",
        port=int(os.environ["BENCH_PORT"]),
        generate_client_file=False,
        log_level="warning",
        access_log=False,
    )

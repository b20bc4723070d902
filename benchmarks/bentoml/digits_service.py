"""BentoML with the real model: one worker, with and without adaptive batching."""

import bentoml
import digits


@bentoml.service(
    workers=1,
    traffic={"timeout": 60},
    logging={"access": {"enabled": False}},
    metrics={"enabled": False},
)
class Digits:
    def __init__(self):
        self.model = digits.load()

    @bentoml.api
    def predict(self, image: list[float]) -> int:
        return digits.classify(self.model, [image])[0]

    @bentoml.api(batchable=True, max_batch_size=32)
    def predict_batch(self, images: list[list[float]]) -> list[int]:
        return digits.classify(self.model, images)

"""BentoML: one worker."""

from collections.abc import AsyncGenerator

import bentoml
import pydantic


class Args(pydantic.BaseModel):
    x: int
    y: str


class Answer(pydantic.BaseModel):
    result: int


@bentoml.service(
    workers=1,
    traffic={"timeout": 60},
    logging={"access": {"enabled": False}},
    metrics={"enabled": False},
)
class Null:
    @bentoml.api
    async def predict(self, args: Args) -> Answer:
        return Answer(result=args.x * 2 + len(args.y))

    @bentoml.api
    def predict_def(self, args: Args) -> Answer:
        return Answer(result=args.x * 2 + len(args.y))

    @bentoml.api
    async def stream(self, args: Args) -> AsyncGenerator[str, None]:
        for i in range(100):
            yield f'data: {{"i": {i}}}\n\n'

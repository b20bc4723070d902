"""FastAPI: the model is called in the server's own process."""

from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from pydantic import BaseModel


class Args(BaseModel):
    x: int
    y: str


class Request(BaseModel):
    args: Args


class Answer(BaseModel):
    result: int


app = FastAPI()


@app.post("/predict")
async def predict(request: Request) -> Answer:
    return Answer(result=request.args.x * 2 + len(request.args.y))


@app.post("/predict-def")
def predict_def(request: Request) -> Answer:
    return Answer(result=request.args.x * 2 + len(request.args.y))


@app.post("/stream")
async def stream(request: Request) -> StreamingResponse:
    async def chunks():
        for i in range(100):
            yield f'data: {{"i": {i}}}\n\n'

    return StreamingResponse(chunks(), media_type="text/event-stream")


@app.post("/stream-def")
def stream_def(request: Request) -> StreamingResponse:
    def chunks():
        for i in range(100):
            yield f'data: {{"i": {i}}}\n\n'

    return StreamingResponse(chunks(), media_type="text/event-stream")

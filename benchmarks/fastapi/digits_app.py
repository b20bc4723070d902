"""FastAPI with the real model: a plain function, as its documentation says for what computes."""

import digits
from fastapi import FastAPI
from pydantic import BaseModel


class Args(BaseModel):
    image: list[float]


class Request(BaseModel):
    args: Args


class Answer(BaseModel):
    result: int


app = FastAPI()
model = digits.load()


@app.post("/predict")
def predict(request: Request) -> Answer:
    return Answer(result=digits.classify(model, [request.args.image])[0])

"""MLServer: its protocol carries the JSON as a string."""

import json

from mlserver import MLModel
from mlserver.codecs import StringCodec
from mlserver.types import InferenceRequest, InferenceResponse


class NullModel(MLModel):
    async def load(self) -> bool:
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        args = json.loads(StringCodec.decode_input(payload.inputs[0])[0])["args"]
        answer = json.dumps({"result": args["x"] * 2 + len(args["y"])})
        return InferenceResponse(
            model_name=self.name, outputs=[StringCodec.encode_output("result", [answer])]
        )

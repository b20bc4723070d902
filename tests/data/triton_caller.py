"""Calls a server by the `tritonclient` package, in an environment that has it, and prints as JSON what came.

`python triton_caller.py http|grpc ADDRESS KEY`. The endpoints are those of `gateway/test_inference.py`.
"""

import json
import queue
import sys
from concurrent.futures import ThreadPoolExecutor

import ml_dtypes
import numpy as np
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

kind, address, key = sys.argv[1:]
if kind == "http":
    import tritonclient.http as triton

    client = triton.InferenceServerClient(address, concurrency=2, network_timeout=60, connection_timeout=60)
else:
    import tritonclient.grpc as triton

    client = triton.InferenceServerClient(address)
found = {}


def options():
    return {
        "headers": {"authorization": f"Bearer {key}"}
    }  # a new one for each call: the package writes into it


def made_input(name, array, **how):
    made = triton.InferInput(name, array.shape, np_to_triton_dtype(array.dtype))
    made.set_data_from_numpy(array, **how)
    return made


def infer(model, inputs, outputs=None, **more):
    wanted = None if outputs is None else [triton.InferRequestedOutput(name) for name in outputs]
    return client.infer(model, inputs, outputs=wanted, **options(), **more)


def is_same(given, came):
    """Whether two arrays are equal to the bit; those of objects are compared one by one."""
    if given.dtype == object:
        return came.shape == given.shape and came.tolist() == given.tolist()
    return (came.dtype, came.shape, came.tobytes()) == (given.dtype, given.shape, given.tobytes())


def error_of(call):
    try:
        call()
    except InferenceServerException as error:
        return [error.status(), error.message()]
    return None


random = np.random.default_rng(20)
ARRAYS = {
    "BOOL": random.integers(0, 2, (3, 5)).astype(bool),
    "FP16": np.frombuffer(random.bytes(2 * 24), np.float16).reshape(4, 6),
    "BF16": np.frombuffer(random.bytes(2 * 24), ml_dtypes.bfloat16).reshape(4, 6),
    "FP32": np.frombuffer(random.bytes(4 * 24), np.float32).reshape(2, 3, 4),
    "FP64": np.frombuffer(random.bytes(8 * 24), np.float64).reshape(24),
    "BYTES": np.array([b"", b"a\0", "\u00fc".encode(), bytes(range(256))], object).reshape(2, 2),
    "empty": np.empty((0, 7), np.int32),
    "scalar": np.array(7, np.int64),
    "fortran": np.asfortranarray(random.random((5, 7))),
    "large": random.random((1024, 1280)),
}
for number in (8, 16, 32, 64):
    for name, bits in ((f"INT{number}", f"<i{number // 8}"), (f"UINT{number}", f"<u{number // 8}")):
        ARRAYS[name] = np.frombuffer(random.bytes(number * 3), bits).reshape(2, 12)

found["live"] = [client.is_server_live(**options()), client.is_server_ready(**options())]
found["ready"] = [
    client.is_model_ready("ti-same", **options()),
    client.is_model_ready("ti-none", **options()),
]
as_json = {"as_json": True} if kind == "grpc" else {}
found["server"] = client.get_server_metadata(**options(), **as_json)
found["metadata"] = client.get_model_metadata("ti-scaled", **options(), **as_json)
found["same"] = {
    name: is_same(array, infer("ti-same", [made_input("x", array)]).as_numpy("output"))
    for name, array in ARRAYS.items()
}
if kind == "http":
    written = {
        name: array for name, array in ARRAYS.items() if name not in ("BF16", "BYTES", "large", "scalar")
    }
    for name, array in written.items():
        if array.dtype.kind == "f":
            array = written[name] = np.arange(array.size).astype(array.dtype).reshape(array.shape) / 3
        outputs = [triton.InferRequestedOutput("output", binary_data=False)]
        came = client.infer(
            "ti-same", [made_input("x", array, binary_data=False)], outputs=outputs, **options()
        )
        written[name] = is_same(array, came.as_numpy("output"))
    found["json"] = written
    rows = np.ones((2, 3), np.float32)
    for coding in ("gzip", "deflate"):
        packed = client.infer(
            "ti-same", [made_input("x", rows)], request_compression_algorithm=coding, **options()
        )
        found[coding] = packed.as_numpy("output").tolist()

rows = np.ones((2, 3), np.float32)
found["factor"] = (
    infer("ti-scaled", [made_input("x", rows)], parameters={"factor": 4.0}).as_numpy("output").tolist()
)
pair = infer(
    "ti-pair", [made_input("a", rows), made_input("b", rows + 1)], ["output_1"], request_id="r1"
).get_response()
found["pair"] = pair if kind == "http" else [pair.id, [output.name for output in pair.outputs]]
named = infer("ti-named", [made_input("x", rows)])
found["named"] = {name: repr(named.as_numpy(name).tolist()) for name in ("total", "names", "raw")}
image = np.array([bytes(range(256))], object)
found["image"] = (
    infer("ti-image", [made_input("data", image), made_input("weights", rows)]).as_numpy("output").item()
)
errors = {
    "shape": lambda: infer("ti-scaled", [made_input("x", rows[:, :2])]),
    "datatype": lambda: infer("ti-scaled", [made_input("x", rows.astype(np.float64))]),
    "unknown": lambda: infer("ti-none", [made_input("x", rows)]),
    "version": lambda: infer("ti-same", [made_input("x", rows)], model_version="7"),
    "name": lambda: infer("ti-same", [made_input("y", rows)]),
    "output": lambda: infer("ti-same", [made_input("x", rows)], ["OUTPUT0"]),
    "raises": lambda: infer("ti-boom", [made_input("x", rows)]),
    "timeout": lambda: infer("ti-slow", [made_input("x", rows)], timeout=200_000),
    "plain": lambda: infer("ti-plain", [made_input("x", rows)]),
    "key": lambda: client.infer("ti-same", [made_input("x", rows)]),
}
found["errors"] = {name: error_of(call) for name, call in errors.items()}


def at_once(model, inputs):
    if kind == "http":
        asked = [client.async_infer(model, each, **options()) for each in inputs]
        return [each.get_result() for each in asked]
    with ThreadPoolExecutor(len(inputs)) as pool:
        return list(pool.map(lambda each: infer(model, each), inputs))


both = ARRAYS["BF16"], ARRAYS["fortran"]
found["batched"] = [
    [is_same(array, came.as_numpy("output_0")), came.as_numpy("output_1").item()]
    for array, came in zip(
        both, at_once("ti-batched", [[made_input("x", each)] for each in both]), strict=True
    )
]
if kind == "grpc":
    answers = queue.Queue()
    client.start_stream(lambda result, error: answers.put((result, error)), headers=options()["headers"])

    def streamed(model, array, **more):
        client.async_stream_infer(model, [made_input("x", array)], enable_empty_final_response=True, **more)
        came = []
        while True:
            result, error = answers.get(timeout=60)
            if error is not None:
                return [*came, error.message()]
            answer = result.get_response()
            if answer.outputs:
                came.append(is_same(array, result.as_numpy("output")))
            if answer.parameters["triton_final_response"].bool_param:
                return [*came, answer.id]

    found["streams"] = {name: streamed("ti-items", array) for name, array in ARRAYS.items()}
    found["streamed"] = {
        "one": streamed("ti-same", rows, request_id="r2"),
        "breaks": streamed("ti-breaks", rows),
        "none": streamed("ti-none", rows),
        "shape": streamed("ti-scaled", rows[:, :2]),
        "then": streamed("ti-items", rows, request_id="r3"),
    }
    client.stop_stream()
found["async"] = infer("ti-later", [made_input("x", rows)]).as_numpy("output").tolist()
found["owner"] = infer("admin/ti-same", [made_input("x", rows)]).as_numpy("output").tolist()
print(json.dumps(found))

"""The unmodified `tritonclient` package, in an environment made when first needed."""

import json
import subprocess
import time
from pathlib import Path
from typing import Annotated

import numpy as np
from own_environment import python_of

from openlaunch import DType, Shape

CALLER = Path(__file__).parents[1] / "data" / "triton_caller.py"
NUMPY = ["numpy", "ml_dtypes"]
"""What the functions below require."""

PACKAGES = ("tritonclient[grpc,http]>=2.60", "ml_dtypes", "numpy")


def python():
    """Return the interpreter of the environment."""
    return python_of("tritonclient", PACKAGES)


def called(kind, address, key):
    """Return what `triton_caller.py` has found."""
    command = [python(), str(CALLER), kind, address, key]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def same(x: np.ndarray):
    return x


def scaled(x: Annotated[np.ndarray, Shape(None, 3), DType("float32")], factor: float = 2.0) -> np.ndarray:
    return x * np.float32(factor)


def pair(a: np.ndarray, b: np.ndarray | None = None) -> tuple[np.ndarray, float]:
    return a, a if b is None else b


def named(x: np.ndarray):
    return {"total": float(x.sum()), "names": ["a\0", "b"], "raw": b"\x00\xff\x00"}


def image(data: bytes, weights: np.ndarray) -> int:
    return len(data)


def boom(x: np.ndarray):
    raise ValueError("no good")


def slow(x: np.ndarray):
    time.sleep(60)


def batched(x: list[np.ndarray]) -> list[tuple[np.ndarray, int]]:
    return [(each, len(x)) for each in x]


BATCHES = {"max_batch_size": 2, "max_batch_wait": 10}
"""Two requests at once are a batch, whatever keeps the second from coming."""


def check(found):
    """Check what `tests/data/triton_caller.py` has found, whichever way it came."""
    assert found["live"] == [True, True]
    assert found["ready"] == [True, False]
    assert found["server"]["name"] == "openlaunch"
    assert found["metadata"]["inputs"][0]["datatype"] == "FP32"
    assert [name for name, is_equal in found["same"].items() if not is_equal] == []
    assert len(found["same"]) == 18
    assert found["factor"] == [[4.0] * 3] * 2
    assert found["named"] == {"total": "6.0", "names": r"[b'a\x00', b'b']", "raw": r"b'\x00\xff\x00'"}
    assert found["image"] == 256
    assert found["batched"] == [[True, 2]] * 2
    assert found["async"] == [[1.0] * 3] * 2
    assert found["owner"] == [[1.0] * 3] * 2
    errors = found["errors"]
    assert "one of FP32 and shape [2, 2] came" in errors["shape"][1]
    assert "one of FP64 and shape [2, 3] came" in errors["datatype"][1]
    assert "ValueError: no good" in errors["raises"][1]
    assert "deadline" in errors["timeout"][1]
    assert "'OUTPUT0'" in errors["output"][1]
    return {name: status for name, (status, _) in errors.items()}

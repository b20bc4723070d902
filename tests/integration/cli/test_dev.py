"""`openlaunch dev` serves from files, and follows them while they are edited."""

import os
import re
import signal
import subprocess
import sys
import time

import httpx2
import pytest

pytestmark = pytest.mark.slow

APP = """\
from dev_parts import scale

def load():
    print("loading", flush=True)
    return {"k": 2}

def predict(model, x: int) -> int:
    return scale(x) * model["k"]
"""
PARTS = "def scale(x):\n    return x + 1\n"
SECONDS = 100


class Development:
    """A command that runs, what it has printed, and its endpoint."""

    def __init__(self, folder, *options):
        self._folder = folder
        self._output = folder / "output"
        with self._output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "openlaunch.cli", "dev", *options],
                cwd=folder,
                stdout=output,
                stderr=output,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )

    def see(self, text):
        end = time.monotonic() + SECONDS
        while text not in (shown := self._output.read_text()):
            assert self.process.poll() is None, shown
            assert time.monotonic() < end, f"{text!r} is not in {shown}"
            time.sleep(0.02)
        return shown

    def call(self, path="predict", **args):
        shown = self.see("Ctrl-C ends all")
        key, url = re.search(r"curl -u (\S+): (http://\S+)/e/", shown).groups()
        return httpx2.post(f"{url}/e/{path}", json=args, auth=(key, ""), timeout=SECONDS)

    def save(self, name, text):
        half = self._folder / "half"
        half.write_text(text)
        half.replace(self._folder / name)

    def answers(self, value, **args):
        end = time.monotonic() + SECONDS
        while (answer := self.call(**args)).json() != value:
            assert time.monotonic() < end, answer.text
        return True


@pytest.fixture
def start(tmp_path):
    begun = []
    (tmp_path / "dev_app.py").write_text(APP)
    (tmp_path / "dev_parts.py").write_text(PARTS)

    def begin(*options):
        begun.append(Development(tmp_path, *options))
        return begun[-1]

    yield begin
    for each in begun:
        each.process.kill()
        each.process.wait()


def test_saves_are_followed_and_the_model_stays(start, tmp_path):
    dev = start("dev_app.py:predict", "--load", "load")
    assert dev.call(x=3).json() == 8
    dev.save("dev_app.py", APP.replace('model["k"]', 'model["k"] + 100'))
    assert dev.answers(108, x=3)
    dev.see("reloaded; the model stays loaded")
    dev.save("dev_parts.py", "def scale(x):\n    return x +\n")
    dev.see("return x +\n              ^\nSyntaxError")
    dev.see("not reloaded")
    assert dev.call(x=3).json() == 108
    dev.save("dev_parts.py", "def scale(x):\n    return x / 0\n")
    assert dev.call(x=3).status_code == 500
    shown = dev.see('dev_parts.py", line 2, in scale\n    return x / 0')
    dev.see("POST /e/predict 500")
    assert shown.count("loading") == 1
    dev.save("dev_parts.py", PARTS)
    assert dev.answers(108, x=3)
    dev.save(
        "dev_app.py", APP.replace("x: int", "x: int, y: int = 5").replace('model["k"]', 'model["k"] + y')
    )
    assert dev.answers(9, x=3, y=1)
    dev.save("dev_app.py", APP.replace('"k": 2', '"k": 3'))
    assert dev.answers(12, x=3)
    dev.see("reloaded; the model is loaded again")
    dev.process.send_signal(signal.SIGINT)
    assert dev.process.wait(SECONDS) == 130


def test_each_function_of_a_file_is_served_and_those_that_come_later(start):
    dev = start("dev_app.py")
    dev.save(
        "dev_app.py", "def predict(x: int):\n    return x\n\ndef shout(text: str):\n    yield text.upper()\n"
    )
    dev.see("shout(text: str) is served")
    assert "HELLO" in dev.call("shout", text="hello").text
    dev.save("dev_app.py", "def predict(x: int):\n    return x\n")
    dev.see("shout is gone")
    assert dev.call(x=3).json() == 3


def test_a_file_that_cannot_be_imported_is_tried_again_once_it_was_saved(start, tmp_path):
    (tmp_path / "dev_app.py").write_text("value = 1 / 0\n")
    dev = start("dev_app.py")
    dev.see("waiting until dev_app.py is saved again")
    dev.save("dev_app.py", "def predict(x: int):\n    return x\n")
    assert dev.call(x=3).json() == 3

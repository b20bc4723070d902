"""What `make demo-page` leaves running: a server with endpoints and traffic, to look at in a browser until Ctrl-C."""

import itertools
import random
import signal
import sys
import time
from collections.abc import Iterator

from pydantic import BaseModel, Field

import openlaunch
from openlaunch import EndpointRequest, LaunchClient

SMALL = {"cpus": 0.1, "memory": "64Mi"}


class Words(BaseModel):
    text: str = Field(description="A sentence")
    loud: bool = False


class Answer(BaseModel):
    pass


def shout(text: str, loud: bool = False) -> str:
    time.sleep(random.expovariate(50))
    print("a sentence of", len(text.split()), "words", flush=True)
    if not text.strip():
        raise ValueError("the sentence is empty")
    return text.upper() + "!" * loud


def spell(text: str, loud: bool = False) -> Iterator[str]:
    for letter in text.upper() if loud else text:
        time.sleep(0.05)
        yield letter


def load() -> None:
    raise RuntimeError("the weights are missing: /models/large.bin")


def deploy(client: LaunchClient) -> None:
    schemas = {"request_schema": Words, "response_schema": Answer}
    client.deploy(shout, name="shout", max_workers=2, **schemas, **SMALL)
    client.deploy(spell, name="spell", endpoint_type="streaming", **schemas, **SMALL)
    client.deploy(shout, name="shout-later", endpoint_type="async", **schemas, **SMALL)
    client.deploy(shout, load_model_fn=load, name="broken", wait=False, **SMALL)


def send(client: LaunchClient) -> None:
    """Send a few predictions each second, of which one in ten fails."""
    now, later = client.get_model_endpoint("shout"), client.get_model_endpoint("shout-later")
    for number in itertools.count():
        text = " ".join(["word"] * random.randint(1, 9)) if number % 10 else ""
        now.predict(EndpointRequest(args={"text": text}))
        if number % 20 == 0:
            later.predict(EndpointRequest(args={"text": "a few words" if number % 40 else ""}))
        time.sleep(random.expovariate(5))


def main() -> None:
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with openlaunch.local() as client:
            deploy(client)
            print(f"page: {client.server.url}/#link={client.make_page_link()} (signs in once)", flush=True)
            print("Ctrl-C ends it.", flush=True)
            send(client)
    except KeyboardInterrupt:
        print("ended")


if __name__ == "__main__":
    sys.exit(main())

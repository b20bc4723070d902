"""The client's types, checked with good and bad calls."""

import inspect
import re
from pathlib import Path

import pytest
from mypy import api

import openlaunch
from openlaunch import aio
from openlaunch.client.deploying import DeployKeywords
from openlaunch.testing import LocalClient

GOOD = """
from collections.abc import Iterator
from typing import assert_type

import openlaunch
from openlaunch import aio
from openlaunch.client.endpoints import AnyEndpoint


def blocking(client: openlaunch.LaunchClient, endpoint: openlaunch.AsyncEndpoint) -> None:
    request = openlaunch.EndpointRequest(args={"x": 1})
    assert_type(client.get_model_endpoint("double"), AnyEndpoint)
    assert_type(client.deploy(len, name="length", min_workers=0), openlaunch.SyncEndpoint)
    assert_type(client.deploy(len, name="length", endpoint_type="async"), openlaunch.AsyncEndpoint)
    assert_type(client.deploy(len, name="length", endpoint_type="streaming"), openlaunch.StreamingEndpoint)
    assert_type(client.deploy(len, name="length", endpoint_type="as" + "ync"), AnyEndpoint)
    assert_type(client.deploy(items, name="items"), openlaunch.StreamingEndpoint)
    assert_type(client.edit_model_endpoint(model_endpoint="double", max_workers=3, cpus=None), AnyEndpoint)
    assert_type(client.list_model_bundles(), list[openlaunch.ModelBundle])
    assert_type(client.create_api_key("me", role="admin").api_key, str)
    futures = endpoint.predict_many([request])
    for future in openlaunch.as_completed(futures, timeout=3):
        assert_type(future.get(), openlaunch.EndpointResponse)
    by_hand = openlaunch.SyncEndpoint(openlaunch.ModelEndpoint(name="double"), client)
    assert_type(by_hand.predict(request), openlaunch.EndpointResponse)
    assert_type(by_hand.model_endpoint.id, str)
    with openlaunch.local() as local:
        assert_type(local.url, str)
        assert_type(local.deploy(awaited, name="awaited"), openlaunch.SyncEndpoint)


def items(n: int) -> Iterator[int]:
    yield n


async def awaited(n: int) -> int:
    return n


async def awaitable(client: aio.LaunchClient, endpoint: aio.StreamingEndpoint) -> None:
    request = openlaunch.EndpointRequest(url="http://host/file")
    assert_type(await client.delete_model_endpoint("double"), bool)
    assert_type(await client.deploy(awaited, name="awaited", endpoint_type="async"), aio.AsyncEndpoint)
    assert_type(await client.deploy(items, name="items", cpus=2), aio.StreamingEndpoint)
    async with await endpoint.predict(request) as stream:
        async for item in stream:
            assert_type(item, aio.EndpointResponse)
    assert_type(await client.future("t"), aio.EndpointResponse)
"""

BAD = """
import openlaunch
from openlaunch import aio


def blocking(client: openlaunch.LaunchClient, endpoint: openlaunch.SyncEndpoint) -> None:
    client.get_model_endpoint(3)  # arg-type
    client.get_model_endpoint()  # call-arg
    client.create_model_endpoint("double")  # call-arg
    client.deploy(len)  # call-arg
    client.deploy(len, name="length", workers=2)  # call-arg
    client.deploy(len, name="length", min_workers="two")  # arg-type
    client.edit_model_endpoint(model_endpoint="double", cpu=2)  # call-arg
    client.predict  # attr-defined
    endpoint.predict({"x": 1})  # arg-type
    openlaunch.EndpointRequest(arg={"x": 1})  # call-arg


async def awaitable(client: aio.LaunchClient) -> None:
    (await client.get_model_endpoint("double")).predict("x")  # union-attr arg-type
    client.list_tasks().tasks  # attr-defined
"""


def check(source, path):
    path.write_text(source)
    return re.findall(r":(\d+): error: .*\[([\w-]+)\]", said_of(path))


def said_of(*paths):
    options = ("--strict", "--cache-dir", ".mypy_cache", "--no-error-summary")
    output, errors, _ = api.run([*map(str, paths), *options])
    assert errors == ""
    return output


@pytest.mark.slow
def test_good_calls_have_no_errors(tmp_path):
    assert check(GOOD, tmp_path / "good.py") == []


ROOT = Path(__file__).parents[3]
FRAGMENTS = ("docs/contributing.md", "docs/how-to/batch-models.md", "docs/how-to/from-llm-engine.md")
"""Documents that show parts of programs, or of another client, which is not installed for the types."""


@pytest.mark.slow
def test_the_programs_of_the_documentation_have_no_errors(tmp_path):
    paths = []
    for document in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        name = document.relative_to(ROOT).as_posix()
        blocks = re.findall(r"^```python\n(.*?)^```$", document.read_text(), re.MULTILINE | re.DOTALL)
        if blocks and name not in FRAGMENTS:
            paths.append(tmp_path / f"{re.sub(r'[^a-z]', '_', name)}.py")
            paths[-1].write_text("\n".join(blocks))
    assert len(paths) >= 8
    assert said_of(*paths) == ""


def test_deploy_is_typed_with_what_it_takes():
    taken = inspect.signature(openlaunch.LaunchClient.deploy).parameters.keys()
    assert taken - {"self", "fn", "name", "endpoint_type"} == DeployKeywords.__annotations__.keys()
    assert inspect.signature(aio.LaunchClient.deploy).parameters.keys() == taken
    assert all(p.kind is not p.VAR_KEYWORD for p in inspect.signature(LocalClient.deploy).parameters.values())


@pytest.mark.slow
def test_bad_calls_are_found(tmp_path):
    found = {int(line) for line, _ in check(BAD, Path(tmp_path / "bad.py"))}
    expected = {n for n, line in enumerate(BAD.splitlines(), 1) if "  # " in line}
    assert found == expected

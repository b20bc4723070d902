"""The client's types, checked with good and bad calls."""

import re
from pathlib import Path

import pytest
from mypy import api

GOOD = """
from typing import assert_type

import openlaunch
from openlaunch import aio
from openlaunch.client.endpoints import AnyEndpoint


def blocking(client: openlaunch.LaunchClient, endpoint: openlaunch.AsyncEndpoint) -> None:
    request = openlaunch.EndpointRequest(args={"x": 1})
    assert_type(client.get_model_endpoint("double"), AnyEndpoint)
    assert_type(client.deploy(len, name="length", min_workers=0), AnyEndpoint)
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


async def awaitable(client: aio.LaunchClient, endpoint: aio.StreamingEndpoint) -> None:
    request = openlaunch.EndpointRequest(url="http://host/file")
    assert_type(await client.delete_model_endpoint("double"), bool)
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
    output, errors, _ = api.run([str(path), "--strict", "--cache-dir", ".mypy_cache", "--no-error-summary"])
    assert errors == ""
    return re.findall(r":(\d+): error: .*\[([\w-]+)\]", output)


@pytest.mark.slow
def test_good_calls_have_no_errors(tmp_path):
    assert check(GOOD, tmp_path / "good.py") == []


@pytest.mark.slow
def test_bad_calls_are_found(tmp_path):
    found = {int(line) for line, _ in check(BAD, Path(tmp_path / "bad.py"))}
    expected = {n for n, line in enumerate(BAD.splitlines(), 1) if "  # " in line}
    assert found == expected

"""One OpenAPI document of a caller's endpoints."""

import jsonschema_rs
import pytest
from pydantic import BaseModel
from server_driver import SMALL, http


class Corner(BaseModel):
    x: int


class Shape(BaseModel):
    corners: list[Corner]


class Area(BaseModel):
    area: float


@pytest.fixture(scope="module")
def document(client):
    options = {"request_schema": Shape, "response_schema": Area, **SMALL}
    client.deploy(lambda corners: {"area": 1.0}, name="docs-sync", **options)
    client.deploy(lambda corners: {"area": 1.0}, name="docs-async", endpoint_type="async", **options)
    client.deploy(lambda x: x, name="docs-plain", **SMALL)
    with http(client) as raw:
        return raw.get("/v1/model-endpoints-schema.json").json()


def operation(document, name):
    (found,) = [path["post"] for path in document["paths"].values() if path["post"]["operationId"] == name]
    return found


def validator(document, schema):
    return jsonschema_rs.Draft202012Validator({**schema, "components": document["components"]})


def test_each_endpoint_has_its_own_path_and_request_schema(document):
    for name in ("docs-sync", "docs-async"):
        body = operation(document, name)["requestBody"]["content"]["application/json"]["schema"]
        assert validator(document, body).is_valid({"args": {"corners": [{"x": 1}]}})
        assert not validator(document, body).is_valid({"args": {"corners": [{"x": "one"}]}})


def test_a_sync_endpoint_has_its_response_schema(document):
    answer = operation(document, "docs-sync")["responses"]["200"]["content"]["application/json"]["schema"]
    value = answer["properties"]["result"]["properties"]["result"]["contentSchema"]
    assert validator(document, value).is_valid({"area": 1.5})
    assert not validator(document, value).is_valid({"area": "large"})


def test_an_endpoint_without_schemas_takes_anything(document):
    body = operation(document, "docs-plain")["requestBody"]["content"]["application/json"]["schema"]
    assert validator(document, body).is_valid({"args": {"anything": 1}})


def test_somebody_else_sees_none_of_them(client, document):
    with http(client, client.create_api_key("reader").api_key) as theirs:
        assert theirs.get("/v1/model-endpoints-schema.json").json()["paths"] == {}


def test_the_page_needs_a_key_and_shows_the_document(client):
    with http(client) as raw:
        page = raw.get("/v1/model-endpoints-api")
        assert "/v1/model-endpoints-schema.json" in page.text
        raw.auth = None
        assert raw.get("/v1/model-endpoints-api").status_code == 401

"""Request and response schemas of bundles."""

import asyncio
import json

import orjson
import pytest
from example_bundles import make_bundle
from pydantic import BaseModel
from sqlalchemy import Connection

from openlaunch.errors import Unprocessable
from openlaunch.server.prediction import schema_cache
from openlaunch.server.prediction.schema_cache import SchemaCache
from openlaunch.server.prediction.schemas import (
    MAX_ERRORS,
    MAX_MESSAGE,
    QUICK_BYTES,
    BundleSchemas,
    TakesLong,
    read_schemas,
    validate_schemas,
)
from openlaunch.store import bundles
from openlaunch.store.sqlite import SqliteStore
from openlaunch.wire.bundles import DERIVED

ITEM = {"type": "object", "properties": {"price": {"type": "number"}}, "required": ["price"]}
REQUEST = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "items": {"type": "array", "items": {"$ref": "#/components/schemas/Item"}},
    },
    "required": ["name"],
}
SCHEMAS = {"RequestSchema": REQUEST, "ResponseSchema": {"type": "integer"}, "Item": ITEM}


def errors_of(args: object, schemas: dict[str, object] | None = None) -> list[dict[str, object]]:
    with pytest.raises(Unprocessable) as caught:
        BundleSchemas(SCHEMAS if schemas is None else schemas, apart=True).check_request(args, 10)
    assert caught.value.code == "request_schema"
    return caught.value.errors  # type: ignore[return-value]


class TestRequests:
    def test_args_that_fit_pass(self):
        BundleSchemas(SCHEMAS).check_request({"name": "x", "items": [{"price": 1.5}]}, 10)

    def test_a_wrong_type_is_named_by_its_path(self):
        (error,) = errors_of({"name": "x", "items": [{"price": 1}, {"price": "much"}]})
        assert error == {
            "loc": ["body", "args", "items", 1, "price"],
            "msg": '"much" is not of type "number"',
            "type": error["type"],
        }

    def test_a_missing_property_is_named_by_its_path(self):
        (error,) = errors_of({"name": "x", "items": [{}]})
        assert error["loc"] == ["body", "args", "items", 0, "price"]

    def test_args_that_are_no_object_at_all(self):
        (error,) = errors_of([1, 2])
        assert error["loc"] == ["body", "args"]

    @pytest.mark.parametrize(
        ("choices", "value", "path", "message"),
        [
            (
                [{"type": "integer"}, {"type": "null"}],
                "3",
                [],
                '"3" is not of type "integer"; or "3" is not of type "null"',
            ),
            ([ITEM, {"type": "null"}], {"price": "much"}, ["price"], '"much" is not of type "number"'),
            ([ITEM, {"type": "null"}], {}, ["price"], '"price" is a required property'),
            (
                [{"anyOf": [{"enum": [1, 2]}, {"type": "null"}]}, {"type": "string"}],
                5,
                [],
                "5 is not one of 1 or 2",
            ),
            (
                [{"type": "array", "items": {"type": "integer"}}, {"type": "integer"}],
                [1, "a"],
                [1],
                '"a" is not of',
            ),
        ],
    )
    def test_of_a_union_what_is_meant_is_named(self, choices, value, path, message):
        (error,) = errors_of({"x": value}, {"RequestSchema": {"properties": {"x": {"anyOf": choices}}}})
        assert error["loc"] == ["body", "args", "x", *path]
        assert str(error["msg"]).startswith(message)

    @pytest.mark.parametrize(
        ("value", "path", "message"),
        [
            ({"kind": "cat", "lives": "q"}, ["lives"], '"q" is not of type'),
            ({"kind": "cow"}, ["kind"], '"cat" was expected; or "dog" was expected'),
            ({"lives": 1}, ["kind"], '"kind" is a required property'),
        ],
    )
    def test_of_a_union_with_a_discriminator_the_field_is_named(self, value, path, message):
        cat = {"properties": {"kind": {"const": "cat"}, "lives": {"type": "integer"}}, "required": ["kind"]}
        dog = {"properties": {"kind": {"const": "dog"}}, "required": ["kind"]}
        schema = {"properties": {"x": {"oneOf": [cat, dog], "discriminator": {"propertyName": "kind"}}}}
        (error,) = errors_of({"x": value}, {"RequestSchema": schema})
        assert error["loc"] == ["body", "args", "x", *path]
        assert str(error["msg"]).startswith(message)

    def test_every_error_is_named_up_to_a_bound(self):
        assert len(errors_of({"items": [{"price": "much"}]})) == 2
        assert len(errors_of({"name": "x", "items": [{}] * 1000})) == MAX_ERRORS

    def test_messages_are_bounded(self):
        (error,) = errors_of({"name": ["x" * 10_000]})
        assert len(str(error["msg"])) <= MAX_MESSAGE + 1

    def test_a_bundle_without_schemas_takes_anything(self):
        for schemas in ({}, {"RequestSchema": None}, {"RequestSchema": {}}, {"RequestSchema": True}):
            BundleSchemas(schemas).check_request({"any": "thing"}, 10)

    def test_deep_input_is_refused_and_harms_nobody(self):
        schema = {"$ref": "#/components/schemas/Deep"}
        deep = {"type": "array", "items": {"$ref": "#/components/schemas/Deep"}}
        args = orjson.loads(b"[" * 1000 + b"7" + b"]" * 1000)
        (error,) = errors_of(args, {"RequestSchema": schema, "Deep": deep})
        assert len(error["loc"]) == 1002  # type: ignore[arg-type]

    def test_input_and_results_too_deep_for_a_schema_with_choices_are_named_so(self):
        deep = {
            "anyOf": [{"type": "array", "items": {"$ref": "#/components/schemas/Deep"}}, {"type": "null"}]
        }
        schema = {"$ref": "#/components/schemas/Deep"}
        checked = BundleSchemas({"RequestSchema": schema, "ResponseSchema": schema, "Deep": deep}, apart=True)
        args = orjson.loads(b"[" * 900 + b"7" + b"]" * 900)
        with pytest.raises(Unprocessable, match="nested too deep") as caught:
            checked.check_request(args, 10)
        assert caught.value.code == "too_deep"
        assert "nested too deep" in str(checked.response_error(args, 10))

    def test_a_document_that_is_nested_too_deep_is_refused_wherever_it_is(self):
        for levels in (101, 980, 100_000):
            with pytest.raises(Unprocessable, match=r"nested deeper than 100 levels|recursion"):
                read_schemas(b'{"RequestSchema": true, "More": %b}' % (b"[" * levels + b"]" * levels))
        read_schemas(b'{"RequestSchema": true, "More": %b}' % (b"[" * 90 + b"]" * 90))


class TestReferences:
    def test_pydantics_own_definitions_are_found(self):
        class Item(BaseModel):
            price: float

        class Basket(BaseModel):
            items: list[Item]

        schemas = {"RequestSchema": Basket.model_json_schema()}
        BundleSchemas(schemas).check_request({"items": [{"price": 1}]}, 10)
        (error,) = errors_of({"items": [{"price": "much"}]}, schemas)
        assert error["loc"] == ["body", "args", "items", 0, "price"]

    def test_a_reference_to_itself(self):
        tree = {"type": "object", "properties": {"left": {"$ref": "#/components/schemas/RequestSchema"}}}
        (error,) = errors_of({"left": {"left": 7}}, {"RequestSchema": tree})
        assert error["loc"] == ["body", "args", "left", "left"]

    @pytest.mark.parametrize("where", ["RequestSchema", "ResponseSchema"])
    def test_nothing_is_read_from_a_file(self, tmp_path, where):
        (tmp_path / "secret.json").write_text('{"type": "string"}')
        schemas = {where: {"$ref": (tmp_path / "secret.json").as_uri()}}
        with pytest.raises(Unprocessable, match="Retrieval is disabled"):
            validate_schemas(schemas)

    @pytest.mark.parametrize(
        "schema",
        [
            {"$ref": "http://127.0.0.1:9/schema"},
            {"properties": {"a": {"$ref": "http://127.0.0.1:9/schema"}}},
            {"$id": "http://127.0.0.1:9/", "$ref": "schema"},
        ],
    )
    def test_nothing_is_fetched_from_the_network(self, schema):
        with pytest.raises(Unprocessable, match="Retrieval is disabled"):
            validate_schemas({"RequestSchema": schema})

    def test_a_dialect_of_ones_own_is_not_fetched(self):
        validate_schemas({"RequestSchema": {"$schema": "http://127.0.0.1:9/dialect", "type": "string"}})


class TestResponses:
    def test_a_value_that_fits(self):
        assert BundleSchemas(SCHEMAS).response_error(7, 10) is None
        assert BundleSchemas({}).response_error("any", 10) is None

    def test_a_value_that_does_not_fit(self):
        assert BundleSchemas(SCHEMAS).response_error("x", 10) == '"x" is not of type "integer"'
        schemas = BundleSchemas({"ResponseSchema": {"items": {"type": "integer"}}})
        assert schemas.response_error([1, "x"], 10) == '1: "x" is not of type "integer"'


class TestValidation:
    def test_the_keywords_of_one_that_checks_nothing_are_checked(self):
        with pytest.raises(Unprocessable):
            validate_schemas({"RequestSchema": {DERIVED: False, "properties": 5}})

    def test_gives_back_what_is_right(self):
        assert validate_schemas(SCHEMAS) is SCHEMAS
        assert validate_schemas({}) == {}

    @pytest.mark.parametrize("document", [None, [], "text", 7])
    def test_what_is_no_object(self, document):
        with pytest.raises(Unprocessable, match="does not hold a JSON object"):
            validate_schemas(document)

    @pytest.mark.parametrize(
        ("schema", "message"),
        [
            ({"type": "strin"}, '"strin" is not valid'),
            ({"properties": 7}, "7 is not of type"),
            ({"type": "string", "pattern": "("}, "is not a"),
            ({"$ref": "#/components/schemas/Missing"}, "does not exist"),
            (7, "it is int, not an object"),
            (False, "it is bool, not an object"),
            ([], "it is list, not an object"),
        ],
    )
    def test_what_is_no_schema_is_named(self, schema, message):
        with pytest.raises(Unprocessable, match=message) as caught:
            validate_schemas({"ResponseSchema": schema})
        (error,) = caught.value.errors
        assert error["loc"] == ["body", "schema_location", "ResponseSchema"]
        assert len(str(caught.value)) < 2 * MAX_MESSAGE
        assert "\n" not in str(caught.value)


def test_compiled_schemas_are_kept_up_to_a_bound(tmp_path, monkeypatch):
    monkeypatch.setattr(schema_cache, "CACHE_SIZE", 2)

    def insert(conn: Connection) -> None:
        for n in range(3):
            bundles.insert(conn, make_bundle(f"bun_{n}", schemas=SCHEMAS))

    async def main() -> None:
        store = await SqliteStore.open(tmp_path / "openlaunch.db")
        try:
            await store.write(insert)
            cache = SchemaCache(store)
            assert cache.cached("bun_0") is None
            first = await cache.get("bun_0")
            assert first.request is not None
            assert cache.cached("bun_0") is first
            assert await cache.get("bun_0") is first
            await cache.get("bun_1")
            await cache.get("bun_2")
            assert cache.cached("bun_0") is None
            assert cache.cached("bun_2") is not None
        finally:
            await store.close()

    asyncio.run(main())


def doubling(levels):
    """A short schema of 2**levels parts: two references at each level."""
    twice = {f"a{i}": {"allOf": [{"$ref": f"#/$defs/a{i + 1}"}] * 2} for i in range(levels)}
    return {"$ref": "#/$defs/a0", "$defs": {**twice, f"a{levels}": {"type": "object"}}}


TREE = {"anyOf": [{"properties": {"c": {"$ref": "#/components/schemas/RequestSchema"}}}] * 2}


class TestCost:
    @pytest.mark.parametrize("levels", [20, 40, 400])
    def test_a_schema_that_explodes_is_refused(self, levels):
        with pytest.raises(Unprocessable, match="parts once its references are followed"):
            validate_schemas({"RequestSchema": doubling(levels)})

    def test_models_are_checked_in_the_servers_own_process(self):
        class Item(BaseModel):
            price: float
            tags: list[str] = []

        class Basket(BaseModel):
            items: list[Item]
            by_name: dict[str, Item] | None = None

        assert BundleSchemas({"RequestSchema": Basket.model_json_schema()}).quick_bytes == QUICK_BYTES

    @pytest.mark.parametrize(
        "schema",
        [
            TREE,
            doubling(15),
            {"pattern": "(?=a)(a+)+$"},
            {"pattern": r"\p{L}{500}"},
            {"pattern": "([^a]{500}){500}"},
            {"patternProperties": {"(?=a)": {}}},
            {"unevaluatedProperties": False},
            {"$id": "http://a/", "type": "object"},
            {"$dynamicRef": "#/$defs/a"},
            {"enum": list(range(20_000))},
        ],
    )
    def test_what_can_take_long_is_checked_in_another_process(self, schema):
        assert BundleSchemas({"RequestSchema": schema}).quick_bytes == 0

    def test_reasons_that_take_long_to_find_are_found_in_another_process(self):
        schemas = BundleSchemas({"RequestSchema": {"items": {"anyOf": [{"const": i} for i in range(2000)]}}})
        schemas.check_request([1] * 100, 300)
        with pytest.raises(TakesLong):
            schemas.check_request([-1] * 100, 300)


def test_a_schema_may_have_whole_numbers_of_any_size():
    schemas = read_schemas(b'{"RequestSchema": {"type": "integer", "maximum": 1180591620717411303424}}')
    again = BundleSchemas(json.loads(BundleSchemas(schemas).source))
    again.check_request(2**70, 30)
    with pytest.raises(Unprocessable):
        again.check_request(2**70 + 1, 30)


@pytest.mark.parametrize("default", [b"NaN", b"-Infinity", rb'"\ud800"'])
def test_a_schema_with_what_json_does_not_have_is_refused(default):
    with pytest.raises(Unprocessable, match="not valid JSON"):
        read_schemas(b'{"RequestSchema": {"default": %s}}' % default)

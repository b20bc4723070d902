"""Tables and several values: DataFrames in and out, and answers with a part for each value."""

import email
import io
import json
import pathlib

import numpy as np
import pytest
from server_driver import SMALL, problem

from openlaunch import EndpointRequest, File
from openlaunch_worker.files import ARROW

pd = pytest.importorskip("pandas")
pa = pytest.importorskip("pyarrow")
pytestmark = pytest.mark.slow


def made() -> pd.DataFrame:
    columns = {"id": [1, 2], "name": ["a", None], "score": [0.5, float("nan")]}
    return pd.DataFrame({**columns, "at": pd.to_datetime(["2026-01-02", None])})


FRAME = made()
RECORDS = [
    {"id": 1, "name": "a", "score": 0.5, "at": "2026-01-02T00:00:00"},
    {"id": 2, "name": None, "score": None, "at": None},
]


def echo(table: pd.DataFrame, note: str = "") -> pd.DataFrame:
    table["more"] = 1
    return table.drop(columns="more")


def described(table: pd.DataFrame) -> dict:
    return {"columns": list(table.columns), "rows": len(table), "kinds": [str(kind) for kind in table.dtypes]}


def several(data: bytes) -> dict:
    return {
        "data": data,
        "file": File(b"x,y", name='a"\r\n.csv', media_type="text/csv"),
        "array": np.arange(3, dtype=np.int16),
        "files": [b"1", b"2"],
        "table": FRAME,  # a global of a library that is written in Cython
        "n": [1, "two"],
    }


def pair() -> tuple[bytes, int]:
    return b"\0\xff", 7


@pytest.fixture(scope="module")
def endpoints(client):
    both = {"requirements": ["pandas", "pyarrow"], "max_workers": 1, **SMALL, "memory": "512Mi"}
    for function in (echo, described, several, pair):
        client.deploy(function, name=f"ta-{function.__name__}", **both)
    client.deploy(echo, name="ta-without", **{**both, "requirements": ["pandas"]})
    return client


def arrow(frame):
    file, table = io.BytesIO(), pa.Table.from_pandas(frame)
    with pa.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table)
    return file.getvalue()


def frame_of(answer):
    assert answer.headers["content-type"] == ARROW, answer.text
    return pa.ipc.open_stream(answer.content).read_pandas()


def parts_of(answer):
    kind = f"Content-Type: {answer.headers['content-type']}\r\n\r\n".encode()
    parts = email.message_from_bytes(kind + answer.content).get_payload()
    return [
        (
            part.get_param("name", header="content-disposition"),
            part.get_content_type(),
            part.get_payload(decode=True).removesuffix(b""),
        )
        for part in parts
    ]


def test_rows_and_columns_are_a_table(raw, endpoints):
    columns = {"id": [1, 2], "name": ["a", "b"]}
    rows = [{"id": 1, "name": "a"}, {"id": 2}]
    for table in (columns, rows):
        answer = raw.post("/e/ta-described", json={"table": table}).json()
        assert (answer["columns"], answer["rows"]) == (["id", "name"], 2)
    assert raw.post("/e/ta-described", json={"table": []}).json()["rows"] == 0


def test_a_value_is_rows_in_which_what_is_missing_is_null(raw, endpoints):
    body = arrow(FRAME)
    answer = raw.post("/e/ta-echo", content=body, headers={"content-type": ARROW})
    assert answer.json() == RECORDS


def test_arrow_comes_and_goes_as_the_body_a_part_and_a_url(raw, endpoints):
    body = arrow(FRAME)
    headers = {"accept": ARROW}
    pd.testing.assert_frame_equal(
        frame_of(raw.post("/e/ta-echo", content=body, headers={**headers, "content-type": ARROW})), FRAME
    )
    files = {"table": ("a.arrow", body, ARROW)}
    answer = raw.post("/e/ta-echo", files=files, data={"note": "n"}, headers=headers)
    pd.testing.assert_frame_equal(frame_of(answer), FRAME)
    rows = raw.post("/e/ta-echo", json={"table": [{"a": 1.5}]}, headers=headers)
    pd.testing.assert_frame_equal(frame_of(rows), pd.DataFrame({"a": [1.5]}))
    as_json = raw.post(
        "/e/ta-echo", json={"table": [{"a": 1}]}, headers={"accept": f"{ARROW}, application/json"}
    )
    pd.testing.assert_frame_equal(frame_of(as_json), pd.DataFrame({"a": [1]}))


def test_the_client_gives_a_table_back(endpoints):
    endpoint = endpoints.get_model_endpoint("ta-echo")
    sent = File(arrow(FRAME), media_type=ARROW)
    found = endpoint.predict(EndpointRequest(args={"table": sent})).value
    pd.testing.assert_frame_equal(found, FRAME)
    rows = pd.DataFrame({"a": [1, 2], "b": [0.5, None]})
    pd.testing.assert_frame_equal(endpoint.predict(EndpointRequest(args={"table": rows})).value, rows)
    without = endpoints.get_model_endpoint("ta-without")
    found = without.predict(EndpointRequest(args={"table": rows})).value
    assert found == [{"a": 1, "b": 0.5}, {"a": 2, "b": None}]


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ([1, 2], "a list of objects, one for each row, or an object of lists"),
        ({"a": 1}, "a list of objects, one for each row, or an object of lists"),
        ({"a": [1], "b": [1, 2]}, "a table is needed"),
        ([{str(n): n} for n in range(2000)], "under names that make 4000000 cells: send columns instead"),
        ("data:text/csv,a", "is needed"),
    ],
)
def test_what_is_no_table_is_refused(raw, endpoints, table, said):
    answer = raw.post("/e/ta-described", json={"table": table})
    assert said in problem(answer, 422)["detail"]


def test_arrow_that_is_cut_off_or_lies_is_refused(raw, endpoints):
    good = arrow(pd.DataFrame({"a": ["text"] * 100, "b": range(100)}))
    headers = {"content-type": ARROW}
    for at in range(0, len(good) - 9, 97):
        cut = raw.post("/e/ta-described", content=good[:at], headers=headers)
        broken = bytearray(good)
        broken[at : at + 8] = b"\xff" * 8
        lied = raw.post("/e/ta-described", content=bytes(broken), headers=headers)
        assert {cut.status_code, lied.status_code} <= {200, 422}, (at, cut.text, lied.text)
    assert raw.post("/e/ta-described", content=good, headers=headers).json()["rows"] == 100


def test_a_bundle_without_pyarrow_has_tables_in_json_alone(raw, endpoints):
    assert raw.post("/e/ta-without", json={"table": [{"a": 1}]}).json() == [{"a": 1}]
    answer = raw.post("/e/ta-without", content=arrow(FRAME), headers={"content-type": ARROW})
    assert "Arrow is read where pyarrow is among the bundle's requirements" in problem(answer, 422)["detail"]
    answer = raw.post("/e/ta-without", json={"table": [{"a": 1}]}, headers={"accept": ARROW})
    assert "accept JSON" in problem(answer, 406)["detail"]


def test_several_values_are_parts_where_the_caller_reads_those(raw, endpoints):
    data = bytes(range(256))
    plain = raw.post("/e/ta-several", content=data, headers={"content-type": "image/png"})
    assert plain.headers["content-type"] == "application/json"
    headers = {"content-type": "image/png", "accept": "multipart/form-data"}
    answer = raw.post("/e/ta-several", content=data, headers=headers)
    assert answer.headers["content-type"].startswith("multipart/form-data; boundary=")
    assert answer.headers["content-security-policy"].startswith("sandbox")
    found = parts_of(answer)
    assert [(name, kind) for name, kind, _ in found] == [
        ("data", "application/octet-stream"),
        ("file", "text/csv"),
        ("array", "application/x-npy"),
        ("files", "application/octet-stream"),
        ("files", "application/octet-stream"),
        ("table", ARROW),
        ("n", "application/json"),
    ]
    values = [value for _, _, value in found]
    assert b"\r\n\r\n" + data + b"\r\n--" in answer.content
    assert b'filename="a%22%0D%0A.csv"' in answer.content
    assert np.load(io.BytesIO(values[2])).tolist() == [0, 1, 2]
    assert (values[3], values[4]) == (b"1", b"2")
    assert json.loads(values[-1]) == [1, "two"]


def test_a_tuple_is_parts_with_numbers(raw, endpoints):
    for kind in ("multipart/form-data", "multipart/mixed"):
        answer = raw.post("/e/ta-pair", json={}, headers={"accept": kind})
        assert answer.headers["content-type"].startswith(f"{kind}; boundary=")
        assert [(name, value) for name, _, value in parts_of(answer)] == [("0", b"\0\xff"), ("1", b"7")]
    answer = raw.post("/e/ta-pair", json={}, headers={"accept": "application/json"})
    assert answer.json()[1] == 7
    # What is one value has its own form.
    answer = raw.post("/e/ta-described", json={"table": []}, headers={"accept": "multipart/form-data"})
    assert [name for name, _, _ in parts_of(answer)] == ["columns", "rows", "kinds"]


def test_the_client_gives_several_values_back_as_what_they_were(endpoints, tmp_path):
    path = pathlib.Path(tmp_path) / "cat.png"
    path.write_bytes(b"cat")
    value = endpoints.get_model_endpoint("ta-several").predict(EndpointRequest(args={"data": path})).value
    assert value["data"] == b"cat"
    assert value["file"].read() == b"x,y"
    assert value["array"].dtype == np.int16
    pd.testing.assert_frame_equal(value["table"], FRAME)

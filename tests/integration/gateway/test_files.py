"""Files in and out by plain HTTP: forms, bodies that are one file, `data:` URLs, and answers that are bytes."""

import json
import os
import pathlib
from urllib.parse import quote

import httpx2
import pytest
from server_driver import DEADLINE, SMALL, eventually, http, problem

from openlaunch import EndpointRequest, File
from openlaunch.errors import Unprocessable
from openlaunch_worker.files import ACCEPT_PARTS, PARTS, of_data_url
from openlaunch_worker.frames import with_parts

CAT = bytes(range(256)) * 2000 + b"\r\n--x\r\n"


def measure(data: bytes, width: int = 1, note: str = "") -> dict:
    return {"size": len(data), "sum": sum(data), "width": width, "note": note}


def place(file: pathlib.Path, others: list[pathlib.Path] = []) -> dict:  # noqa: B006
    return {"path": str(file), "read": file.read_text(), "others": [each.name for each in others]}


def describe(file: File) -> list:
    return [file.name, file.media_type, len(file.read())]


def give(kind: str) -> object:
    if kind == "file":
        return File(CAT, name="cat.png", media_type="image/png")
    if kind == "page":
        return File(b"<script>", media_type="text/html; charset=utf-8")
    if kind == "bad":
        return File(b"x", media_type="a/b\r\nset-cookie: c=1")
    return {"path": pathlib.Path(__file__), "bytes": b"ab", "nothing": None}[kind]


def given(kind: str) -> bytes:
    return CAT if kind == "large" else b""


def items(data: bytes, times: int = 2):
    for _ in range(times):
        yield len(data)


def left(path: str) -> bool:
    return os.path.exists(path)  # noqa: PTH110


@pytest.fixture(scope="module")
def endpoints(client):
    for function in (measure, place, describe, give, given, items):
        client.deploy(function, name=f"fi-{function.__name__}", **SMALL)
    client.deploy(measure, name="fi-later", endpoint_type="async", **SMALL)
    client.deploy(lambda data: data, name="fi-plain", **SMALL)
    return client


MEASURED = {"size": len(CAT), "sum": sum(CAT), "width": 64, "note": "7"}
FIELDS = {"width": "64", "note": "7"}


def test_a_form_has_files_and_fields(raw, endpoints):
    answer = raw.post("/e/fi-measure", files={"data": ("cat.png", CAT, "image/png")}, data=FIELDS)
    assert (answer.status_code, answer.json()) == (200, MEASURED)
    assert raw.post("/e/fi-measure", files={"data": b"ab"}).json()["size"] == 2
    # A field without a name of a file is bytes, too, where the function takes those.
    assert raw.post("/e/fi-measure", files={"data": (None, b"abc")}).json()["size"] == 3
    assert raw.post("/e/fi-measure", files={"data": (None, b"data:,abcd")}).json()["size"] == 4


def test_a_body_is_the_one_file(raw, endpoints):
    typed = {"content-type": "image/png"}
    assert raw.post("/e/fi-measure", content=CAT, headers=typed).json()["sum"] == sum(CAT)
    assert raw.post("/e/fi-describe", content=b"ab", headers=typed).json() == ["", "image/png", 2]
    assert raw.post("/e/fi-describe", content=b"", headers=typed).json() == ["", "image/png", 0]


def test_json_has_a_file_as_a_data_url(raw, endpoints):
    for url in ("data:text/plain;base64,aMOp", "data:,h%C3%A9"):
        assert raw.post("/e/fi-describe", json={"file": url}).json() == ["", "text/plain", 3]
    for wrong in ("aGk=", "data:;base64,a", "/etc/passwd"):
        assert (
            "data: URL" in problem(raw.post("/e/fi-measure", json={"data": wrong}), 422)["detail"]
            or wrong[0] == "d"
        )


def test_json_has_a_file_as_a_url_under_the_rules_of_inputs(client, raw, endpoints):
    answer = raw.post("/e/fi-measure", json={"data": client.server.url + "/healthz"})
    assert answer.status_code == 200, answer.text
    refused = problem(raw.post("/e/fi-measure", json={"data": client.server.url + "/nothing-here"}), 400)
    assert "could not be fetched" in refused["detail"]


EVIL = (
    "../../evil",
    "/etc/passwd",
    "..",
    "a\\..\\b.txt",
    "x" * 300 + ".txt",
    "a." + "x" * 300,
    "",
    "sub/in",
    ".rc",
)


@pytest.mark.parametrize("name", EVIL)
def test_a_path_is_in_a_folder_of_the_request_which_goes_with_it(raw, endpoints, name):
    answer = raw.post("/e/fi-place", files={"file": (name, b"text")})
    assert answer.status_code == 200, answer.text
    found = pathlib.PurePosixPath(answer.json()["path"])
    assert answer.json()["read"] == "text"
    assert ".." not in found.parts
    assert found.parts[-3].startswith("openlaunch-request-")
    assert len(found.name) <= 100


@pytest.mark.parametrize("name", EVIL)
def test_a_name_that_a_function_gets_leads_to_no_folder(name):
    for file in (File(b"", name=name), of_data_url(f"data:;name={quote(name, safe='')},x")):
        assert not {"/", "\\"} & {*file.name}
        assert file.name not in (".", "..")


def test_a_folder_of_a_request_is_removed(client, raw, endpoints):
    def keeps(file: pathlib.Path | None = None, old: str = "") -> str:
        return str(file) if file is not None else str(pathlib.Path(old).exists())

    client.deploy(keeps, name="fi-keeps", **SMALL)
    path = raw.post("/e/fi-keeps", files={"file": b"x"}).json()
    eventually(lambda: raw.post("/e/fi-keeps", json={"old": path}).json() == "False")


def test_several_files_of_one_name_are_a_list(raw, endpoints):
    sent = [("file", ("a.txt", b"a")), ("others", ("b.txt", b"b")), ("others", ("c.txt", b"c"))]
    assert raw.post("/e/fi-place", files=sent).json()["others"] == ["b.txt", "c.txt"]


def test_streams_and_tasks_take_files(raw, endpoints):
    asked = {"accept": "application/json"}
    assert raw.post("/e/fi-items", files={"data": CAT}, headers=asked).json() == [len(CAT)] * 2
    later = raw.post("/e/fi-later", files={"data": ("cat.png", CAT)}, data=FIELDS)
    assert later.status_code == 202, later.text
    assert raw.get(later.headers["location"]).json() == MEASURED
    waited = {"prefer": f"wait={DEADLINE:.0f}", "content-type": "image/png"}
    assert raw.post("/e/fi-measure", content=CAT, headers=waited).json()["sum"] == sum(CAT)


def form(body, boundary="x"):
    return {"content": body, "headers": {"content-type": f"multipart/form-data; boundary={boundary}"}}


PART = b'--x\r\nContent-Disposition: form-data; name="data"; filename="a"\r\n\r\nabc'


@pytest.mark.parametrize(
    "sent",
    [
        form(PART),
        form(PART + b"\r\n--"),
        form(PART + b"\r\n--x"),
        form(PART[:20]),
        form(b""),
        form(b"nothing of the kind"),
        form(b"--x\r\nContent-Disposition: form-data\r\n\r\nabc\r\n--x--\r\n"),
        form(b"--x\r\n" + b"a" * 10_000 + b"\r\n\r\nabc\r\n--x--\r\n"),
        form(PART + b"\r\n--x--\r\n", boundary=""),
        form(PART.replace(b"\r\n\r\n", b"\r\nContent-Transfer-Encoding: base64\r\n\r\n") + b"\r\n--x--\r\n"),
        form(b"--x\r\nContent-Disposition: form-data; name=data\r\n\r\nabc\r\n" * 1200 + b"--x--\r\n"),
    ],
)
def test_a_form_that_is_cut_off_or_none_is_400(raw, endpoints, sent):
    assert problem(raw.post("/e/fi-measure", **sent), 400)["code"] == "invalid_form"


def test_a_form_as_it_may_be_written(raw, endpoints):
    preamble = (
        b"ignored\r\n--x \t\r\ncontent-disposition: FORM-DATA; NAME=data\r\n\r\nab\r\n--xy\r\n--x--\r\nafter"
    )
    assert raw.post("/e/fi-measure", **form(preamble)).json()["size"] == 8
    quoted = form(PART + b"\r\n--x--")
    quoted["headers"]["content-type"] = 'Multipart/Form-Data; charset=utf-8; boundary="x"'
    assert raw.post("/e/fi-measure", **quoted).json()["size"] == 3


def test_what_does_not_go_with_the_arguments_is_422(raw, endpoints):
    wrong = problem(raw.post("/e/fi-measure", files={"data": b"a"}, data={"width": "wide"}), 422)
    assert wrong["detail"][0]["loc"] == ["body", "width"]
    for sent in (
        {"files": {"width": ("w.txt", b"1"), "data": b""}},
        {"files": [("data", b"a"), ("data", b"b")]},
        {"files": {"data": b"a", "other": (None, b"1")}},
        {"files": {"width": (None, b"1")}},
        {"files": {"data": b"a", "note": (None, b"\xe9")}},
    ):
        problem(raw.post("/e/fi-measure", **sent), 422)


def test_another_type_is_415_and_names_what_is_taken(raw, endpoints):
    plain = {"content-type": "text/plain"}
    assert "application/json" in problem(raw.post("/e/fi-plain", content=b"a", headers=plain), 415)["detail"]
    assert problem(raw.post("/e/fi-plain", files={"a": b"1"}), 415)["detail"].endswith(
        "send application/json"
    )
    assert (
        "multipart/form-data" in problem(raw.post("/e/fi-give", content=b"a", headers=plain), 415)["detail"]
    )


def test_bytes_are_answered_as_they_are_where_that_is_read(raw, endpoints):
    answer = raw.post("/e/fi-give", json={"kind": "file"})
    assert (answer.headers["content-type"], answer.content) == ("image/png", CAT)
    assert raw.post("/e/fi-give", json={"kind": "bytes"}).content == b"ab"
    assert raw.post("/e/fi-given", json={"kind": ""}).content == b""
    assert raw.post("/e/fi-give", json={"kind": "path"}).headers["content-type"].startswith("text/x-python")
    assert raw.post("/e/fi-give", json={"kind": "nothing"}).json() is None
    for accept in ("application/json", "application/json, text/plain, */*"):
        as_json = raw.post("/e/fi-give", json={"kind": "file"}, headers={"accept": accept})
        assert as_json.json().startswith("data:image/png;type=file;name=cat.png;base64,")
    for accept in ("application/json;q=0.5, image/png", "image/*;q=0.9, application/json;q=0.1"):
        assert raw.post("/e/fi-give", json={"kind": "file"}, headers={"accept": accept}).content == CAT
    # The annotation says that it is bytes, so another type may be all that is read.
    asked = {"accept": "application/octet-stream"}
    assert raw.post("/e/fi-given", json={"kind": "large"}, headers=asked).content == CAT
    problem(raw.post("/e/fi-measure", files={"data": b"a"}, headers=asked), 406)


def test_a_browser_runs_nothing_of_an_answer(raw, endpoints):
    answer = raw.post("/e/fi-give", json={"kind": "page"})
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "sandbox" in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    bad = raw.post("/e/fi-give", json={"kind": "bad"})
    assert bad.headers["content-type"] == "application/octet-stream"
    assert "set-cookie" not in bad.headers


def test_a_repeated_request_has_the_first_answer_as_json(raw, endpoints):
    headers = {"idempotency-key": "fi-once"}
    first, again = (raw.post("/e/fi-give", json={"kind": "file"}, headers=headers) for _ in range(2))
    assert first.text == again.text
    assert first.json().startswith("data:image/png;type=file;name=cat.png;base64,")


def test_the_document_names_the_types(raw, endpoints):
    content = raw.get("/e/fi-measure/openapi.json").json()["paths"]["/e/admin/fi-measure"]["post"]
    assert set(content["requestBody"]["content"]) == {"application/json", "multipart/form-data", "*/*"}
    answered = raw.get("/e/fi-given/openapi.json").json()["paths"]["/e/admin/fi-given"]["post"]["responses"][
        "200"
    ]
    assert set(answered["content"]) == {"application/json", "application/octet-stream"}


def test_a_caller_that_leaves_while_it_sends_leaves_nothing(raw, endpoints):
    def cut():
        yield PART
        raise httpx2.ReadError("gone")

    with pytest.raises(httpx2.ReadError):
        raw.post("/e/fi-measure", content=cut(), headers=form(b"")["headers"])
    assert raw.post("/e/fi-measure", files={"data": b"ab"}).json()["size"] == 2


def test_our_client_sends_files_and_gets_them_back(client, raw, endpoints, tmp_path):
    (tmp_path / "cat.png").write_bytes(CAT)
    args = {"data": tmp_path / "cat.png", "width": 64, "note": "7"}
    of = {
        name: client.get_model_endpoint(f"fi-{name}")
        for name in ("measure", "later", "items", "describe", "place")
    }
    assert of["measure"].predict(EndpointRequest(args=args)).value == MEASURED
    assert of["later"].predict(EndpointRequest(args=args)).get(DEADLINE).value == MEASURED
    items = of["items"].predict(EndpointRequest(args={"data": CAT}))
    assert [item.value for item in items] == [len(CAT)] * 2
    named = File(b"abc", name="a b.txt")
    assert of["describe"].predict(EndpointRequest(args={"file": named})).value == ["a b.txt", "text/plain", 3]
    listed = {"file": b"text", "others": [File(b"1", name="one"), File(b"2", name="two")]}
    assert of["place"].predict(EndpointRequest(args=listed)).value["others"] == ["one", "two"]
    given = client.get_model_endpoint("fi-give").predict(EndpointRequest(args={"kind": "file"})).value
    assert (given.name, given.media_type, given.data) == ("cat.png", "image/png", CAT)
    with pytest.raises(Unprocessable, match="width"):
        of["measure"].predict(EndpointRequest(args={"data": b"", "width": "wide"}))


def test_our_client_sends_files_in_json_where_the_function_has_no_annotations(client, endpoints):
    plain = client.get_model_endpoint("fi-plain")
    value = plain.predict(EndpointRequest(args={"data": b"ab"})).value
    assert value == "data:application/octet-stream;base64,YWI="
    large = plain.predict(EndpointRequest(args={"data": b"abc" * 100_000})).value
    assert large == "data:application/octet-stream;base64," + "YWJj" * 100_000


@pytest.fixture(scope="module")
def uploaded(raw):
    return raw.post("/v1/files", files={"file": ("cat.png", CAT)}).json()["id"]


def test_an_uploaded_file_is_given_by_its_id_at_every_type_of_endpoint(client, raw, endpoints, uploaded):
    args = {"data": uploaded, "width": 64, "note": "7"}
    assert raw.post("/e/fi-measure", json=args).json() == MEASURED
    assert raw.post("/e/fi-describe", json={"file": uploaded}).json() == ["cat.png", "image/png", len(CAT)]
    assert raw.post("/e/fi-measure", files={"data": (None, uploaded)}, data=FIELDS).json() == MEASURED
    asked = {"accept": "application/json"}
    assert raw.post("/e/fi-items", json={"data": uploaded}, headers=asked).json() == [len(CAT)] * 2
    waited = {"prefer": f"wait={DEADLINE:.0f}"}
    assert raw.post("/e/fi-later", json=args, headers=waited).json() == MEASURED
    of = {name: client.get_model_endpoint(f"fi-{name}") for name in ("measure", "later", "items")}
    request = EndpointRequest(args=args)
    assert of["measure"].predict(request).value == MEASURED
    assert of["later"].predict(request).get(DEADLINE).value == MEASURED
    assert [each.get(DEADLINE).value for each in of["later"].predict_many([request] * 3)] == [MEASURED] * 3
    assert next(of["items"].predict(EndpointRequest(args={"data": uploaded}))).value == len(CAT)


def test_ids_stand_beside_files_and_in_lists(client, raw, endpoints, uploaded):
    text = raw.post("/v1/files", files={"file": ("a.txt", b"text")}).json()["id"]
    sent = {"file": text, "others": [File(b"1", name="one"), uploaded, text]}
    names = ["one", "cat.png", "a.txt"]
    assert client.get_model_endpoint("fi-place").predict(EndpointRequest(args=sent)).value["others"] == names
    mixed = [("file", (None, text)), ("others", ("one", b"1")), *[("others", (None, uploaded))]]
    assert raw.post("/e/fi-place", files=mixed).json()["others"] == names[:2]
    keyed = {"idempotency-key": "fi-id"}
    answers = [raw.post("/e/fi-place", json={"file": text}, headers=keyed).text for _ in range(2)]
    assert answers[0] == answers[1]


def test_an_id_that_is_not_of_the_callers_file_is_refused(client, raw, endpoints, uploaded):
    unknown = "file_" + "0" * 20
    for path, body, loc in (
        ("/e/fi-measure", {"data": unknown}, ["body", "data"]),
        ("/e/fi-later", {"data": unknown}, ["body", "data"]),
        ("/e/fi-place", {"file": "data:,a", "others": ["data:,a", unknown]}, ["body", "others", 1]),
        (
            "/v1/sync-tasks?model_endpoint_id=fi-measure",
            {"args": {"data": unknown}},
            ["body", "args", "data"],
        ),
    ):
        refused = problem(raw.post(path, json=body), 422)
        assert refused["code"] == "file_not_found"
        assert refused["detail"][0]["loc"] == loc
    client.deploy(measure, name="fi-shared", public_inference=True, **SMALL)
    with http(client, client.create_api_key("fi-other").api_key) as theirs:
        assert theirs.post("/e/admin/fi-shared", json={"data": "data:,abc"}).json()["size"] == 3
        answer = theirs.post("/e/admin/fi-shared", json={"data": uploaded})
        assert problem(answer, 422)["code"] == "file_not_found"
    text = problem(raw.post("/e/fi-measure", json={"data": "file_1"}), 422)["detail"]
    assert text.endswith("the id of an uploaded file; text of 6 characters came: it is not a data: URL")
    many = problem(raw.post("/e/fi-place", json={"file": uploaded, "others": [uploaded] * 1000}), 422)
    assert "1001 ids of files are given, at most 1000" in many["detail"]


def test_inputs_of_batch_jobs_name_uploaded_files(client, endpoints, uploaded):
    inputs = [{"data": uploaded}, {"data": "file_" + "0" * 20}, {"data": "data:,abc"}]
    job = client.batch_async_request(model_bundle="fi-measure", inputs=inputs, memory="64Mi", cpus=0.1)
    client.wait_for_batch_job(job["job_id"], timeout=DEADLINE)
    first, unknown, last = client.read_batch_results(job["job_id"])
    assert (first["result"]["sum"], last["result"]["size"]) == (sum(CAT), 3)
    assert unknown["status_code"] == 422
    assert "no file of yours has the id" in unknown["traceback"]


def test_our_client_is_answered_without_base64(client, raw, endpoints):
    where = {"model_endpoint_id": "fi-given"}

    def type_of_answer(**more):
        headers = {"accept": ACCEPT_PARTS, **more}
        answer = raw.post("/v1/sync-tasks", params=where, json={"args": {"kind": "large"}}, headers=headers)
        assert answer.status_code == 200
        return answer.headers["content-type"]

    assert type_of_answer() == PARTS
    # What is kept, and what others ask for, is JSON.
    assert type_of_answer(**{"idempotency-key": "fi-given"}) == "application/json"
    assert type_of_answer(accept="application/json") == "application/json"
    response = client.get_model_endpoint("fi-given").predict(EndpointRequest(args={"kind": "large"}))
    assert response.value == CAT
    assert json.loads(response.result).startswith("data:application/octet-stream;type=bytes;base64,")
    failed = client.get_model_endpoint("fi-give").predict(EndpointRequest(args={"kind": "none"}))
    assert failed.status == "FAILURE"
    assert "KeyError" in failed.traceback


def test_answers_that_are_recorded_are_json(client, raw, endpoints):
    client.deploy(given, name="fi-recorded", record={"share": 1.0}, **SMALL)
    headers = {"accept": ACCEPT_PARTS}
    body = {"args": {"kind": "large"}}
    answer = raw.post("/v1/sync-tasks?model_endpoint_id=fi-recorded", json=body, headers=headers)
    assert answer.headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"abc",
        b"\xff" * 10,
        with_parts(b"ab", b"{}"),
        with_parts(b"ab", b'{"args": {"data": ""}, "parts": [[["other"], 0, 1, "", ""]]}'),
        with_parts(b"ab", b'{"args": {"data": ""}, "parts": [[["data"], "x", 1, "", ""]]}'),
        with_parts(b"ab", b'{"args": {"data": "a"}, "parts": [[["data"], 0, 1, "", ""]]}'),
        with_parts(b"ab", b'{"args": {"data": ""}, "parts": 1}'),
        with_parts(b"ab", b'{"args": {"data": ""}}'),
        with_parts(b"ab", b'{"url": "https://example.com", "parts": []}'),
    ],
)
def test_a_body_of_parts_that_is_none_is_refused(raw, endpoints, body):
    headers = {"content-type": "application/vnd.openlaunch.parts"}
    where = {"model_endpoint_id": "fi-measure"}
    answer = raw.post("/v1/sync-tasks", params=where, content=body, headers=headers)
    assert answer.status_code in (400, 422), answer.text

"""Uploaded files over HTTP."""

import time

import pytest
from server_driver import SMALL, http, running

from openlaunch.artifacts.signing import UrlSigner
from openlaunch.wire import routes

LIMIT = 2 * 1024 * 1024


@pytest.fixture(scope="module")
def client():
    with running(max_bundle_bytes=LIMIT, max_body_bytes=4096) as client:
        yield client


def upload(raw, content, name="notes.txt"):
    return raw.post("/v1/files", files={"file": (name, content)})


def artifacts(client):
    return sorted((client.server.data_dir / "artifacts").rglob("file_*"))


def test_a_file_is_stored_listed_read_and_deleted(client, raw):
    made = upload(raw, "grüße".encode(), "größe.txt").json()["id"]
    described = {"id": made, "filename": "größe.txt", "size": 7, "owner": "admin"}
    found = raw.get(f"/v1/files/{made}").json()
    assert found | described == found
    assert found in raw.get("/v1/files").json()["files"]
    assert raw.get(f"/v1/files/{made}/content").json() == {"id": made, "content": "grüße"}
    assert len(artifacts(client)) == 1
    assert raw.delete(f"/v1/files/{made}").json()["deleted"] is True
    assert raw.get(f"/v1/files/{made}").status_code == 404
    assert artifacts(client) == []


def test_somebody_elses_file_is_not_found(client, raw):
    made = upload(raw, b"mine").json()["id"]
    with http(client, client.create_api_key("other").api_key) as theirs:
        assert theirs.get("/v1/files").json()["files"] == []
        for answer in (
            theirs.get(f"/v1/files/{made}"),
            theirs.get(f"/v1/files/{made}/content"),
            theirs.delete(f"/v1/files/{made}"),
        ):
            assert answer.status_code == 404
    assert raw.get(f"/v1/files/{made}/content").json()["content"] == "mine"


SCRIPT = b"<!doctype html><script>alert(document.cookie)</script>"


def test_a_browser_runs_nothing_of_what_was_uploaded(client, raw):
    made = raw.post(
        "/v1/files", files={"file": ("page.html", SCRIPT, "text/html")}, data={"purpose": "batch"}
    )
    plain = upload(raw, SCRIPT, "page.html")
    put = raw.post(routes.BATCH_UPLOAD).json()["signedUrl"]
    assert raw.put(put, content=SCRIPT, headers={"content-type": "text/html"}).status_code == 200
    key = put.partition(f"{routes.ARTIFACTS}/")[2].partition("?")[0]
    secret = bytes.fromhex((client.server.data_dir / "url-secret").read_text())
    signed = f"{routes.ARTIFACTS}/{key}?{UrlSigner(secret).sign('GET', key, time.time() + 60)}"
    attached = [raw.get(f"/v1/files/{made.json()['id']}/content"), raw.get(signed)]
    for answer in attached:
        assert answer.content == SCRIPT
        assert answer.headers["content-disposition"] == "attachment"
        assert answer.headers["content-type"] == "application/octet-stream"
    others = [
        made,
        raw.get(f"/v1/files/{plain.json()['id']}/content"),
        raw.get(f"/v1/files/{SCRIPT.decode()}"),
    ]
    for answer in (*attached, *others):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["content-security-policy"].startswith("sandbox;")


def test_a_file_that_is_no_text_can_not_be_read_as_text(raw):
    made = upload(raw, b"\xff\xfe\x00").json()["id"]
    answer = raw.get(f"/v1/files/{made}/content")
    assert answer.status_code == 422
    assert "not UTF-8 text" in answer.text


def test_a_file_over_the_limit_is_refused_and_leaves_nothing(client, raw):
    before = artifacts(client)
    assert upload(raw, b"a" * (LIMIT + 1)).status_code == 413
    assert artifacts(client) == before


def test_a_file_that_is_too_large_to_be_read_at_once_is_refused(raw):
    made = upload(raw, b"a" * 5000).json()["id"]
    assert raw.get(f"/v1/files/{made}/content").status_code == 413


def length(data: bytes) -> int:
    return len(data)


def test_an_argument_that_names_a_file_over_the_limit_of_bodies_is_refused(client, raw):
    client.deploy(length, name="length", **SMALL)
    small, large = (upload(raw, b"a" * size).json()["id"] for size in (3000, 5000))
    assert raw.post("/e/length", json={"data": small}).json() == 3000
    assert "the limit is 4096 bytes" in raw.post("/e/length", json={"data": large}).json()["detail"]
    waited = {"prefer": "wait=0"}
    assert raw.post("/e/length", json={"data": large}, headers=waited).status_code == 413


@pytest.mark.parametrize(
    ("options", "status"),
    [
        ({"json": {}}, 400),
        ({"content": b"nonsense", "headers": {"content-type": "multipart/form-data"}}, 400),
        ({"content": b"nonsense", "headers": {"content-type": "multipart/form-data; boundary=x"}}, 400),
        ({"files": {"other": ("a", b"b")}}, 422),
        ({"files": {"file": (None, "a field, not a file")}}, 422),
    ],
)
def test_a_body_that_is_no_upload_is_refused(raw, options, status):
    answer = raw.post("/v1/files", **options)
    assert answer.status_code == status, answer.text

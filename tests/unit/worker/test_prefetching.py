"""Where a URL lies in a cache, and what of a cache goes first."""

import http.server
import json
import os
import threading
from contextlib import suppress

import pytest

from openlaunch_worker import resuming
from openlaunch_worker.cache_trimming import trim
from openlaunch_worker.prefetch import fetch, mark_ready, marker_of
from openlaunch_worker.prefetch_urls import shown, source_of

HUB = "hf://org/model@v1"
FILE = "https://host:8443/a/b.bin?token=1"


@pytest.mark.parametrize(
    ("url", "place"),
    [
        (HUB, "hf/org/model@v1"),
        ("hf://org/model", "hf/org/model@main"),
        ("hf://org/model@refs%2Fpr%2F1/sub/a.gguf", "hf/org/model@refs_pr_1/sub/a.gguf"),
        (FILE, "https/host_8443/a/b.bin"),
        ("s3://bucket/key/a%20b", "s3/bucket/key/a b"),
        ("s3://bucket/folder/", "s3/bucket/folder"),
        ("gs://bucket/folder/", "gs/bucket/folder"),
        ("az://container/key/a%20b", "az/container/key/a b"),
    ],
)
def test_a_url_has_a_place(url, place):
    assert source_of(url).place == place


@pytest.mark.parametrize(
    "url",
    [
        "hf://one",
        "hf://a/b/../c",
        "https://host",
        "https://host/%2e%2e/x",
        "s3://b/a/../../x",
        "https://a:b@h/x",
        "/etc",
        "",
    ],
)
def test_a_url_that_leads_elsewhere_is_refused(url):
    with pytest.raises(ValueError, match=r"."):
        source_of(url)


def test_a_query_is_not_shown():
    assert shown(FILE) == "https://host:8443/a/b.bin"


ASKED = []


class Large(http.server.BaseHTTPRequestHandler):
    """A hub whose model, and a server whose file, is larger than any disk."""

    asked = ASKED

    def do_GET(self):
        self.asked.append(self.path)
        body = json.dumps({"sha": "c", "siblings": [{"rfilename": "a", "size": 2**60}]}).encode()
        is_hub = self.path.startswith("/api/")
        self.send_response(200)
        self.send_header("Content-Length", str(len(body) if is_hub else 2**60))
        self.end_headers()
        self.wfile.write(body if is_hub else b"x")

    def log_message(self, *_):
        """Print nothing."""


def test_what_does_not_fit_the_disk_is_refused_before_it_is_downloaded(tmp_path, monkeypatch):
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Large) as server:
        threading.Thread(target=server.serve_forever).start()
        url = f"http://127.0.0.1:{server.server_port}"
        try:
            monkeypatch.setenv("HF_ENDPOINT", url)
            with pytest.raises(
                resuming.Failed, match=f"{2**60} bytes are to come, and the disk has [0-9]+ free"
            ):
                fetch(tmp_path, source_of("hf://org/model"), 0)
            assert len(ASKED) == 1
            with pytest.raises(resuming.Failed, match="the disk has"):
                resuming.Download(
                    f"{url}/file", tmp_path / "file", resuming.no_headers, lambda size: None
                ).run()
        finally:
            server.shutdown()
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.suffix != ".lock"]


def put(path, size, used_at):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * size)
    os.utime(path, (used_at, used_at))


def ready(cache, url, used_at):
    marker_of(cache, source_of(url)).parent.mkdir(exist_ok=True)
    mark_ready(cache, source_of(url))
    os.utime(marker_of(cache, source_of(url)), (used_at, used_at))


@pytest.fixture
def cache(tmp_path):
    """A cache of 240 KiB: a prefetched repository, a prefetched file, and what a library has put there."""
    snapshot = tmp_path / "huggingface/hub/models--org--model/snapshots/aa"
    put(snapshot / "one", 40_960, 5)
    put(snapshot / "two", 40_960, 5)
    (tmp_path / "hf/org").mkdir(parents=True)
    (tmp_path / "hf/org/model@v1").symlink_to(os.path.relpath(snapshot, tmp_path / "hf/org"))
    put(tmp_path / "https/host_8443/a/b.bin", 81_920, 6)
    put(tmp_path / "torch/old", 40_960, 1)
    put(tmp_path / "torch/new", 40_960, 9)
    ready(tmp_path, HUB, 3)
    ready(tmp_path, FILE, 4)
    return tmp_path


def left(cache):
    return {
        path.name for path in cache.rglob("*") if path.is_file() and ".openlaunch-ready" not in path.parts
    }


@pytest.mark.parametrize(
    ("max_bytes", "kept", "names"),
    [
        (300_000, [], {"one", "two", "b.bin", "old", "new"}),
        (220_000, [], {"one", "two", "b.bin", "new"}),
        (130_000, [], {"b.bin", "new"}),
        (50_000, [], {"new"}),
        (130_000, [HUB], {"one", "two", "new"}),
        (1, [HUB, FILE], {"one", "two", "b.bin"}),
    ],
)
def test_what_was_used_least_recently_goes_first_and_what_belongs_together_at_once(
    cache, max_bytes, kept, names
):
    trim(cache, max_bytes, map(source_of, kept))
    assert left(cache) == names
    for url, its in ((HUB, "one"), (FILE, "b.bin")):
        assert marker_of(cache, source_of(url)).exists() == (its in names)


def test_nothing_outside_of_a_cache_goes(cache, tmp_path_factory):
    outside = tmp_path_factory.mktemp("outside")
    put(outside / "file", 40_960, 0)
    (cache / "torch/link").symlink_to(outside)
    (cache / "torch/to-file").symlink_to(outside / "file")
    trim(cache, 1, [])
    assert (outside / "file").exists()


class Endless(http.server.BaseHTTPRequestHandler):
    """Redirects to where a cloud serves its credentials, or sends 4 KiB."""

    def do_GET(self):
        self.send_response(302 if self.path == "/redirect" else 200)
        self.send_header("Location", METADATA)
        endless = self.path == "/endless"
        self.send_header("Content-Length", str(2**40 if endless else 4096))
        self.end_headers()
        with suppress(OSError):
            self.wfile.write(bytes(4096))
            while endless:
                self.wfile.write(bytes(4096))

    def log_message(self, *given):
        """Print nothing."""


METADATA = "http://169.254.169.254/latest/meta-data/"


@pytest.fixture
def hostile():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Endless) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_nothing_is_fetched_where_clouds_serve_credentials_also_not_by_a_redirect(hostile):
    for url in (METADATA, f"{hostile}/redirect"):
        with pytest.raises(resuming.Failed, match="metadata address, which is never allowed"):
            resuming.open_url(url, {})


def test_a_list_of_files_has_a_limit(hostile, monkeypatch):
    assert len(resuming.read_document(hostile, resuming.no_headers)) == 4096
    monkeypatch.setattr(resuming, "MAX_DOCUMENT_BYTES", 4095)
    for url in (hostile, f"{hostile}/endless"):  # of which no more is read than that
        with pytest.raises(resuming.Failed, match="over 4095 bytes"):
            resuming.read_document(url, resuming.no_headers)

"""Environments from a folder of wheels and from an index with a password, which the server's settings name."""

import base64
import http.server
import zipfile
from contextlib import contextmanager
from pathlib import Path

import pytest
from http_service import http_service
from server_driver import SMALL, args, running

from openlaunch.errors import EndpointFailed

PASSWORD = "S3CRETPASS"


def wheel(folder: Path, name: str) -> Path:
    path = folder / f"{name}-1.0-py3-none-any.whl"
    about = f"{name}-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{name}.py", f"NAME = {name!r}\n")
        archive.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        archive.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{about}/RECORD", "")
    return path


@contextmanager
def index(package: Path):
    """An index with one package, for those who have the password."""
    right = "Basic " + base64.b64encode(f"me:{PASSWORD}".encode()).decode()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            name = package.name.partition("-")[0].replace("_", "-")
            data = {
                f"/simple/{name}/": f'<a href="/{package.name}">{package.name}</a>'.encode(),
                f"/{package.name}": package.read_bytes(),
            }.get(self.path, b"")
            authorized = self.headers.get("Authorization") == right
            self.send_response(401 if not authorized else 200 if data else 404)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(data)

        do_HEAD = do_GET  # noqa: N815 -- the name is the library's

        def log_message(self, *_):
            pass

    with http_service(Handler) as server:
        yield f"http://me:{PASSWORD}@127.0.0.1:{server.server_port}/simple"


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheels")
    folder.chmod(0o755)
    wheel(folder, "of_a_folder")
    with (
        index(wheel(tmp_path_factory.mktemp("index"), "of_an_index")) as url,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("UV_DEFAULT_INDEX", url)
        patch.setenv("UV_HTTP_RETRIES", "0")
        with running(extra_index_urls=url, find_links=folder) as client:
            yield client


def both():
    import of_a_folder
    import of_an_index

    return [of_a_folder.NAME, of_an_index.NAME]


def test_packages_come_from_the_folder_and_from_the_index(client):
    needs = ["of-a-folder", "of-an-index"]
    endpoint = client.deploy(both, name="sources", requirements=needs, **SMALL)
    assert endpoint.predict(args()).value == ["of_a_folder", "of_an_index"]
    (environment,) = client.list_environments()
    assert PASSWORD not in environment.model_dump_json()
    about = client.server.data_dir / "environments" / environment.id / "openlaunch.json"
    assert PASSWORD not in about.read_text()


def test_a_password_is_in_no_reason_and_no_log(client):
    with pytest.raises(EndpointFailed) as failed:
        client.deploy(both, name="missing", requirements=["nothing-has-this"], **SMALL)
    shown = (
        str(failed.value)
        + client.read_endpoint_creation_logs("missing")
        + (client.server.data_dir / "server.log").read_text()
    )
    assert "nothing-has-this" in shown
    assert PASSWORD not in shown

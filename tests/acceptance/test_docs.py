"""What the documentation shows is run as it stands, and what it lists is all there is."""

import contextlib
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import triton_driver
import trustme
from server_driver import eventually
from tools.site.check import problems

import openlaunch
from openlaunch import EndpointRequest, errors
from openlaunch.server.settings import Settings
from openlaunch.testing import LocalServer

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
BIN = Path(sys.executable).parent


def blocks(document, language):
    text = (ROOT / document).read_text()
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def run(command, data_dir):
    environ = {**os.environ, "OPENLAUNCH_DATA_DIR": str(data_dir), "PATH": f"{BIN}:{os.environ['PATH']}"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, env=environ, cwd=data_dir)
    assert done.returncode == 0, f"{command}: {done.stdout}\n{done.stderr}"
    return done.stdout


def script(tmp_path, document):
    path = tmp_path / "example.py"
    path.write_text("\n".join(blocks(document, "python")))
    return [sys.executable, "-W", "error", str(path)]


def test_the_readmes_example_does_what_it_says(tmp_path):
    first, *rest = run(script(tmp_path, "README.md"), tmp_path).split()
    assert first == "2"
    assert sorted(rest) == ["-3", "1"]


def test_the_readmes_example_has_about_twenty_lines():
    (example,) = blocks("README.md", "python")
    assert len([line for line in example.splitlines() if line.strip()]) <= 20


TUTORIALS = {
    "first-endpoint": ["HELLO! HELLO!", "2", "word", "READY", "FROM THE SHELL!"],
    "first-queue": ["5", "9", "FAILURE ValueError", "7", "FAILURE"],
    "first-stream": ["{'number': 2}", "stopped at 2"],
}


@pytest.mark.slow
@pytest.mark.parametrize("name", TUTORIALS)
def test_a_tutorial_works_from_top_to_bottom(tmp_path, name):
    data_dir, document = tmp_path / "data", f"docs/tutorials/{name}.md"
    with LocalServer(data_dir):
        output = run(script(tmp_path, document), data_dir)
        for block in blocks(document, "sh"):
            for line in block.splitlines():
                if line.startswith("openlaunch") and line != "openlaunch serve":
                    output += run(shlex.split(line), data_dir)
    for expected in TUTORIALS[name]:
        assert expected in output


def test_the_first_example_of_the_documentation_works(tmp_path):
    assert run(script(tmp_path, "docs/index.md"), tmp_path) == "1\n"


def test_the_keys_of_the_documentation_are_made(tmp_path):
    data_dir = tmp_path / "data"
    with LocalServer(data_dir):
        block, *_ = blocks("docs/how-to/manage-keys.md", "sh")
        for line in block.splitlines():
            output = run(shlex.split(line), data_dir)
    assert "owner=shop role=predict" in output
    assert "owner=ada" in output


def test_the_batch_job_of_the_documentation_runs(tmp_path):
    data_dir = tmp_path / "data"
    with LocalServer(data_dir):
        assert run(script(tmp_path, "docs/how-to/run-batch-jobs.md"), data_dir) == "[3, 3, 5]\n"
        (data_dir / "words.jsonl").write_text('{"word": "four"}\n')
        (block,) = blocks("docs/how-to/run-batch-jobs.md", "sh")
        assert run(shlex.split(block), data_dir) == "4\n"


def test_the_canary_of_the_documentation_gets_its_share(tmp_path):
    data_dir = tmp_path / "data"
    with LocalServer(data_dir):
        *counts, times = run(script(tmp_path, "docs/how-to/roll-out.md"), data_dir).splitlines()
        assert counts == ["25 of 100", "SERVING 25 0"]
        assert all(float(each) > 0 for each in times.split())
        (block,) = blocks("docs/how-to/roll-out.md", "sh")
        for line in block.splitlines():
            output = run(shlex.split(line), data_dir)
        assert "50 %, ROLLED_BACK" in output


def test_the_batching_of_the_documentation_works(tmp_path):
    with LocalServer(tmp_path / "data"):
        output = run(script(tmp_path, "docs/how-to/batch-requests.md"), tmp_path / "data")
    assert output == "['SUCCESS', 'SUCCESS', 'FAILURE']\n1.0\n"


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
def test_the_files_of_the_documentation_come_and_go(tmp_path):
    page = "docs/how-to/files-and-arrays.md"
    with LocalServer(tmp_path / "data") as server:
        assert run(script(tmp_path, page), tmp_path / "data") == "2\nquiet.txt b'QUIET'\n"
        environ = {**os.environ, "OPENLAUNCH_URL": server.url, "OPENLAUNCH_API_KEY": server.api_key}
        command = ["bash", "-euo", "pipefail", "-c", "\necho\n".join(blocks(page, "sh"))]
        done = subprocess.run(command, capture_output=True, text=True, timeout=100, env=environ, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[:6] == [
        *("2", "ONE", "TWO", "THREE"),
        *('"data:text/plain;type=file;base64,UVVJRVQ="', "3"),
    ]
    assert 'name="rest"; filename="rest.txt"' in done.stdout
    assert "\none\n" in done.stdout


def test_the_table_of_the_documentation_comes_and_goes(tmp_path):
    pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    path = tmp_path / "example.py"
    path.write_text(blocks("docs/how-to/files-and-arrays.md", "py")[-1])
    with LocalServer(tmp_path / "data"):
        assert run([sys.executable, str(path)], tmp_path / "data") == "[2, 3]\n"


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
def test_the_tensors_of_the_documentation_come_and_go(tmp_path, monkeypatch):
    page = "docs/how-to/serve-tensors.md"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("OPENLAUNCH_GRPC_PORT", str(free.getsockname()[1]))
    with LocalServer(tmp_path / "data") as server:
        run(script(tmp_path, page), tmp_path / "data")
        environ = {**os.environ, "OPENLAUNCH_URL": server.url, "OPENLAUNCH_API_KEY": server.api_key}
        metadata, answer, by_http, by_grpc = (
            subprocess.run(
                command, capture_output=True, text=True, timeout=100, env=environ, check=True
            ).stdout
            for command in (
                ["bash", "-euo", "pipefail", "-c", blocks(page, "sh")[0].split("\n", 1)[0]],
                ["bash", "-euo", "pipefail", "-c", blocks(page, "sh")[0].split("\n", 1)[1]],
                [triton_driver.python(), "-c", blocks(page, "py")[0]],
                [triton_driver.python(), "-c", "".join(blocks(page, "py")[1:])],
            )
        )
    assert json.loads(metadata)["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}]
    assert json.loads(answer)["outputs"][0]["data"] == [4.5, 6.0]
    assert by_http == "[[0.5, 1.0], [1.5, 2.0]]\n"
    assert by_grpc.splitlines() == ["[[2.0, 4.0]]", "[[1.0, 2.0]]", "[[2.0, 3.0]]"]


@pytest.fixture(scope="module")
def any_server(tmp_path_factory):
    """A server for pages that need nothing else."""
    with LocalServer(tmp_path_factory.mktemp("any") / "data") as server:
        yield server


SAID = {
    "concepts/overview": "",
    "how-to/call-another-model": "",
    "how-to/use-the-context": "A\nB\n50% page 2 2\n",
    "how-to/send-your-code": "",
}


@pytest.mark.parametrize("name", SAID)
def test_the_examples_of_a_page_run(any_server, tmp_path, name):
    assert run(script(tmp_path, f"docs/{name}.md"), any_server.data_dir) == SAID[name]
    if name == "how-to/call-another-model":
        assert (
            run(["openlaunch", "predict", "search", "--args", "query=four"], any_server.data_dir) == "[4.0]\n"
        )


PAGES_OF_COMMANDS = {
    "how-to/limit-tokens": "tokens_per_day 0/5000000",
    "how-to/receive-callbacks": "https://hooks.example/openlaunch",
    "how-to/watch-with-prometheus": "",
    "concepts/limits": "gpus 0/-",
}


@pytest.mark.parametrize("name", PAGES_OF_COMMANDS)
def test_the_commands_of_a_page_run(any_server, tmp_path, name):
    commands = "".join(blocks(f"docs/{name}.md", "sh"))
    environ = {
        **os.environ,
        "OPENLAUNCH_DATA_DIR": str(any_server.data_dir),
        "PATH": f"{BIN}:{os.environ['PATH']}",
    }
    done = subprocess.run(
        ["bash", "-euc", commands], capture_output=True, text=True, timeout=100, env=environ, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert PAGES_OF_COMMANDS[name] in done.stdout + done.stderr
    if name == "how-to/watch-with-prometheus":
        assert "OpenlaunchServerTrouble" in (tmp_path / "openlaunch-alerts.yaml").read_text()
        assert (tmp_path / "openlaunch.key").read_text().startswith("ol_")


NOT_RUN = {
    "docs/how-to/run-image-jobs.md": "it needs a registry",
    "docs/how-to/trace-with-opentelemetry.md": "it needs a collector, which test_tracing.py has",
}


def test_every_page_with_an_example_is_run_or_says_why_not():
    tests = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    pages = {document.relative_to(ROOT).as_posix() for document in DOCUMENTS if blocks(document, "python")}
    of_lists = {f"docs/tutorials/{name}.md" for name in TUTORIALS} | {f"docs/{name}.md" for name in SAID}
    assert {page for page in pages - of_lists - NOT_RUN.keys() if f'{page}"' not in tests} == set()


def test_the_functions_of_the_documentation_run_without_a_server(tmp_path):
    page = "docs/how-to/develop-a-function.md"
    (tmp_path / "app.py").write_text(blocks(page, "python")[0])
    output = [run(shlex.split(line), tmp_path) for line in blocks(page, "sh")[0].splitlines()]
    assert output == ["5\n", "50\n", "13\n"]


def test_the_file_of_endpoints_of_the_documentation_is_applied(tmp_path):
    data_dir = tmp_path / "data"
    with LocalServer(data_dir):
        lines = blocks("docs/how-to/project-file.md", "sh")[0].splitlines()
        output = [run(shlex.split(line), data_dir) for line in lines]
    assert output[1] == "Hi, world!\n"
    assert output[2].startswith("+ endpoint greet")
    assert output[4] == "Hello, Ada!\n"
    assert output[5] == ""


def test_the_cache_of_the_documentation_is_kept(tmp_path):
    page = "docs/how-to/secrets-and-caches.md"
    data_dir = tmp_path / "data"
    with LocalServer(data_dir):
        (data_dir / "app.py").write_text(blocks(page, "python")[0])
        output = [run(shlex.split(line), data_dir) for line in blocks(page, "sh")[0].splitlines()]
    assert output[1] == '["hello"]\n'
    assert "caches" in output[2]


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
def test_an_endpoint_is_called_from_anywhere_as_the_documentation_says(tmp_path):
    page = "docs/how-to/call-from-anywhere.md"
    (tmp_path / "app.py").write_text(blocks(page, "python")[0])
    with LocalServer(tmp_path / "data") as server:
        environ = {
            **os.environ,
            "OPENLAUNCH_URL": server.url,
            "OPENLAUNCH_API_KEY": server.api_key,
            "PATH": f"{BIN}:{os.environ['PATH']}",
        }
        command = ["bash", "-euo", "pipefail", "-c", "\necho\n".join(blocks(page, "sh")[0].splitlines())]
        done = subprocess.run(command, capture_output=True, text=True, timeout=100, env=environ, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[3:7] == ["(sync)", "6", "422", "2.0"]
    assert "access-control-allow-origin: https://app.example" in done.stdout.lower()
    assert json.loads((tmp_path / "openapi.json").read_text())["openapi"] == "3.1.0"


GO = """
package main

import (
    "encoding/json"
    "fmt"
    "net/http"
    "os"
    "strings"
)

func call(url string, key string) error {
%s    fmt.Println(answer.StatusCode, value)
    return err
}

func main() {
    if err := call(os.Getenv("OPENLAUNCH_URL"), os.Getenv("OPENLAUNCH_API_KEY")); err != nil {
        panic(err)
    }
}
"""


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("go"), reason="the toolchain of Go is not installed")
def test_an_endpoint_is_called_from_go_as_the_documentation_says(tmp_path):
    page = "docs/how-to/call-from-anywhere.md"
    (tmp_path / "main.go").write_text(GO % blocks(page, "go")[0])
    with LocalServer(tmp_path / "data") as server:
        environ = {
            **os.environ,
            "OPENLAUNCH_URL": server.url,
            "OPENLAUNCH_API_KEY": server.api_key,
            "GOCACHE": str(tmp_path / "cache"),
        }
        (tmp_path / "data" / "app.py").write_text(blocks(page, "python")[0])
        run(shlex.split(blocks(page, "sh")[0].splitlines()[0]), tmp_path / "data")
        command = ["go", "run", "main.go"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=200, env=environ, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "200 6\n"


@pytest.fixture(scope="module")
def far_server(tmp_path_factory):
    """A server that speaks HTTPS, with the endpoints of the page on curl, and its authority's certificate."""
    folder, authority = tmp_path_factory.mktemp("far"), trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(folder / "both.pem")
    with contextlib.ExitStack() as stack:
        with pytest.MonkeyPatch.context() as patch:  # only here: other tests run while this server does
            patch.setenv("OPENLAUNCH_TLS_CERT", str(folder / "both.pem"))
            server = stack.enter_context(LocalServer(folder / "data"))
            patch.setenv("OPENLAUNCH_CA_FILE", str(folder / "ca.pem"))
            run(script(folder, "docs/how-to/call-with-curl.md"), folder / "data")
        yield server, folder / "ca.pem"


@pytest.mark.skipif(not (shutil.which("curl") and shutil.which("jq")), reason="curl and jq are not installed")
def test_the_curl_of_the_documentation_works(far_server, tmp_path):
    server, certificate = far_server
    blocks_of_page = blocks("docs/how-to/call-with-curl.md", "sh")
    environ = {
        **os.environ,
        "OPENLAUNCH_URL": server.url,
        "OPENLAUNCH_API_KEY": server.api_key,
        "CURL_CA_BUNDLE": str(certificate),
    }
    command = ["bash", "-euo", "pipefail", "-c", "\n".join(blocks_of_page)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, env=environ, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for expected in ("hello Ada", "hello Grace", "hello Kay", '"result": 2}', "\n: end\n", "some text"):
        assert expected in done.stdout


def test_an_endpoint_is_called_from_another_machine_as_the_documentation_says(far_server, tmp_path):
    server, certificate = far_server
    page = "docs/how-to/call-from-another-machine.md"
    (make_key,), log_in = (block.splitlines() for block in blocks(page, "sh"))
    here = {**os.environ, "OPENLAUNCH_DATA_DIR": str(server.data_dir), "OPENLAUNCH_CA_FILE": str(certificate)}
    there = {
        **os.environ,
        "OPENLAUNCH_DATA_DIR": str(tmp_path),
        "OPENLAUNCH_CONFIG_FILE": str(tmp_path / "config"),
    }

    def said(command, environ, stdin=""):
        for placeholder, real in (
            ("https://models.example.org:8000", server.url),
            ("ca.pem", str(certificate)),
        ):
            command = command.replace(placeholder, real)
        done = subprocess.run(
            [BIN / "openlaunch", *shlex.split(command)[1:]],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=100,
            env=environ,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    key = said(make_key, here)
    output = "".join(said(command, there, key) for command in log_in)
    assert f"logged in to {server.url} as admin (predict)" in output
    assert "hello Ada" in output
    done = subprocess.run(script(tmp_path, page), capture_output=True, text=True, timeout=100, env=there)
    assert (done.stdout, done.stderr) == ("hello Grace\n", "")


def listens(port):
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.skipif(not shutil.which("nginx"), reason="nginx is not installed")
def test_the_nginx_of_the_documentation_passes_streams_and_urls_on(tmp_path):
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(tmp_path / "models.pem")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with LocalServer(tmp_path / "data") as server:
        (site,) = blocks("docs/how-to/serve-over-tls.md", "nginx")
        for written, here in (
            ("listen 443", f"listen 127.0.0.1:{port}"),
            ("/etc/ssl/models.pem", str(tmp_path / "models.pem")),
            ("/etc/ssl/models.key", str(tmp_path / "models.pem")),
            ("http://127.0.0.1:8000", server.url),
        ):
            assert written in site
            site = site.replace(written, here)
        places = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        temporary = " ".join(f"{each}_temp_path {tmp_path / each};" for each in places)
        (tmp_path / "nginx.conf").write_text(
            f"daemon off; master_process off; pid {tmp_path / 'pid'}; error_log {tmp_path / 'error.log'};\n"
            f"events {{}} http {{ access_log off; {temporary}\n{site}}}\n"
        )
        nginx = subprocess.Popen(
            ["nginx", "-c", str(tmp_path / "nginx.conf"), "-e", str(tmp_path / "error.log")]
        )
        try:
            with openlaunch.LaunchClient(
                api_key=server.api_key, endpoint=f"https://127.0.0.1:{port}", ca_file=tmp_path / "ca.pem"
            ) as client:
                eventually(lambda: listens(port))
                pickled = client.deploy(lambda x: {x}, name="pickled")
                answer = pickled.predict(EndpointRequest(args={"x": 1}, return_pickled=True))
                assert (answer.result_url or "").startswith(f"https://127.0.0.1:{port}/")
                assert answer.value == {1}

                def waits(n: int) -> Iterator[int]:
                    yield n
                    time.sleep(60)

                stream = client.deploy(waits, name="waits", endpoint_type="streaming")
                with stream.predict(EndpointRequest(args={"n": 3})) as items:
                    assert next(iter(items)).value == 3  # it is not held back until the end
        finally:
            nginx.kill()
            nginx.wait()


@pytest.fixture(scope="module")
def site():
    command = [sys.executable, "-m", "zensical", "build", "--strict", "--clean"]
    built = subprocess.run(command, capture_output=True, text=True, timeout=110, cwd=ROOT)
    assert built.returncode == 0, built.stdout + built.stderr
    return ROOT / ".site"


@pytest.mark.slow
def test_every_link_of_the_site_leads_somewhere_and_nothing_is_loaded_from_other_hosts(site):
    assert list(problems(site)) == []


@pytest.mark.slow
def test_the_site_has_every_setting_error_command_and_route(site):
    references = {file.stem: file.read_text() for file in (site / "reference").glob("*.html")}
    for name in Settings.model_fields:
        assert f'id="openlaunch_{name}"' in references["settings"]
    for error in [*errors.OpenlaunchError.__subclasses__(), *errors.APIError.__subclasses__()]:
        assert f"<code>{error.__name__}</code>" in references["errors"]
    for command in ("serve", "endpoints canary", "batch-jobs run"):
        assert f"<code>openlaunch {command}</code>" in references["cli"]
    assert "<code>POST /v1/sync-tasks</code>" in references["http"]
    assert 'id="openlaunch.client.client.LaunchClient.create_model_endpoint"' in references["python"]


@pytest.mark.parametrize("document", ["reliability", "security"])
def test_every_test_that_shows_a_promise_is_there(document):
    text = (ROOT / f"docs/concepts/{document}.md").read_text()
    for file in re.findall(r"`(?:tests/)?([\w/]+/test_\w+\.py)[`:]", text):
        assert (ROOT / "tests" / file).exists(), file
    for row in text.splitlines():
        file = None
        for named, test in re.findall(r"`([\w/]*(?:\.py)?)::(\w+)`", row):
            file = named or file
            assert re.search(rf"def {test}\(", (ROOT / "tests" / file).read_text()), f"{file}::{test}"


def test_every_file_that_architecture_and_decisions_name_is_there():
    files = [
        path.relative_to(ROOT).as_posix()
        for place in ("benchmarks", "src", "tests", "tools")
        for path in (ROOT / place).rglob("*.py")
    ]
    for document in [*(ROOT / "docs/architecture").glob("*.md"), *(ROOT / "docs/adr").glob("*.md")]:
        for named in re.findall(r"`([\w/]+\.py)`", document.read_text()):
            assert [file for file in files if f"/{file}".endswith(f"/{named}")], f"{document.name}: {named}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_between_documents_lead_somewhere(document):
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", document.read_text()):
        if not target.startswith("http"):
            assert (document.parent / target).exists(), target

"""Logging in and out, and the options that stand anywhere."""

import json
import os
import pty
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from server_driver import running

from openlaunch import LaunchClient
from openlaunch.cli.app import run


@pytest.fixture(scope="module")
def server():
    with running() as client:
        yield client.server


@pytest.fixture
def cli(server, tmp_path, monkeypatch, capsys):
    """Runs a command without a server in its environment: exit code, stdout, stderr."""
    for name in ("OPENLAUNCH_URL", "OPENLAUNCH_API_KEY", "LAUNCH_ENDPOINT", "OPENLAUNCH_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OPENLAUNCH_DATA_DIR", str(tmp_path / "no-server"))
    monkeypatch.setenv("OPENLAUNCH_CONFIG_FILE", str(tmp_path / "config.toml"))

    def command(*arguments):
        code = run(arguments)
        return code, *capsys.readouterr()

    return command


def test_a_login_is_kept_until_the_logout(cli, server, tmp_path):
    host = server.url.removeprefix("http://")
    code, out, err = cli("login", server.url, "--api-key", server.api_key)
    assert (code, out) == (0, f"logged in to {server.url} as admin (admin)\n")
    assert err == f"the profile {host} is in use; its URL and key are stored in {tmp_path / 'config.toml'}\n"
    assert stat.S_IMODE((tmp_path / "config.toml").stat().st_mode) == 0o600
    code, out, _ = cli("whoami")
    source = f"the profile {host} in {tmp_path / 'config.toml'}"
    assert code == 0
    assert f"server  {server.url} (from {source})\n" in out
    assert f"(from {source})\nowner   admin\nrole    admin\n" in out
    assert cli("endpoints", "list", "--json")[:2] == (0, "[]\n")
    assert cli("logout")[:2] == (0, f"logged out of {server.url}\n")
    assert server.api_key not in (tmp_path / "config.toml").read_text()
    assert cli("endpoints", "list")[0] == 2
    assert cli("logout")[0] == 2


def test_a_wrong_key_stores_nothing(cli, server, tmp_path):
    code, out, err = cli("login", server.url, "--key", "wrong-key-of-nobody")
    assert (code, out) == (4, "")
    assert "wrong-key-of-nobody" not in err
    assert "hint: nothing is stored" in err
    assert not (tmp_path / "config.toml").exists()


def test_a_wrong_key_is_named_by_where_it_came_from(cli, server, monkeypatch):
    monkeypatch.setenv("OPENLAUNCH_API_KEY", "wrong-key-of-nobody")
    code, _, err = cli("endpoints", "list", "--server", server.url)
    assert code == 4
    assert f"the key is from OPENLAUNCH_API_KEY; `openlaunch login {server.url}` stores another one" in err
    assert "the key is from the arguments; " in cli("whoami", "--server", server.url, "--key", "wrong")[2]


def test_profiles_are_named_listed_and_chosen(cli, server):
    for name in ("one", "two"):
        assert cli("login", "--profile", name, server.url, "--api-key", server.api_key)[0] == 0
    _, out, _ = cli("profiles", "list")
    assert out == f"NAME\tIN USE\tURL\none\t-\t{server.url}\ntwo\tyes\t{server.url}\n"
    assert cli("profiles", "use", "one")[1] == f"commands use one: {server.url}\n"
    assert [p["in_use"] for p in json.loads(cli("profiles", "list", "--json")[1])] == [True, False]
    code, _, err = cli("profiles", "use", "tow")
    assert (code, "it has two" in err) == (2, True)
    assert server.api_key not in "".join(map(str, cli("profiles", "list", "--json")))


def test_a_variable_that_goes_before_the_profile_is_named(cli, server, monkeypatch):
    monkeypatch.setenv("OPENLAUNCH_URL", "http://127.0.0.1:1")
    err = cli("login", server.url, "--api-key", server.api_key)[2]
    assert "OPENLAUNCH_URL is set, and goes before the profile" in err
    assert cli("endpoints", "list")[0] == 2


def test_a_key_comes_from_standard_input_where_that_is_not_a_terminal(cli, server, tmp_path, monkeypatch):
    (tmp_path / "key").write_text(f"{server.api_key}\n")
    with (tmp_path / "key").open() as file, monkeypatch.context() as patch:
        patch.setattr(sys, "stdin", file)
        assert cli("login", server.url)[0] == 0
    with (tmp_path / "no-server").open("w+") as file, monkeypatch.context() as patch:
        patch.setattr(sys, "stdin", file)
        code, _, err = cli("login", server.url)
    assert (code, "no key was given" in err) == (2, True)


def test_no_key_is_asked_for_where_no_server_answers(cli):
    code, _, err = cli("login", "http://127.0.0.1:1")
    assert (code, "http://127.0.0.1:1" in err, "no key was given" in err) == (5, True, False)


def test_a_terminal_asks_for_the_key_and_does_not_show_it(server, tmp_path):
    parent, child = pty.openpty()
    command = [sys.executable, "-m", "openlaunch.cli", "login", server.url]
    environ = {**os.environ, "OPENLAUNCH_CONFIG_FILE": str(tmp_path / "config.toml")}
    with os.fdopen(parent, "r+b", buffering=0) as screen:
        process = subprocess.Popen(
            command, stdin=child, stdout=child, stderr=child, env=environ, start_new_session=True
        )
        os.close(child)
        shown = b""
        while b"API key for" not in shown:
            shown += screen.read(1024)
        screen.write(f"{server.api_key}\n".encode())
        while b"stored in" not in shown:
            shown += screen.read(1024)
        assert process.wait(60) == 0
    assert server.api_key.encode() not in shown
    assert server.api_key in Path(environ["OPENLAUNCH_CONFIG_FILE"]).read_text()


def test_options_of_every_command_stand_anywhere(cli, server):
    where = ("--server", server.url, "--api-key", server.api_key)
    for arguments in (
        (*where, "endpoints", "list", "--json"),
        ("endpoints", *where, "--json", "list"),
        ("--json", "endpoints", "list", *where),
        ("endpoints", "list", f"--url={server.url}", f"--key={server.api_key}", "--json"),
    ):
        assert cli(*arguments) == (0, "[]\n", ""), arguments
    code, _, err = cli("tasks", "send", "nope", "--url", "http://127.0.0.1:1/input", *where)
    assert (code, "there is no endpoint 'nope'" in err) == (3, True)
    assert cli("--api-key", "wrong-key", "endpoints", "list", *where, "--json")[0] == 0  # the last one counts


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("endpoint", "list"), "Did you mean 'endpoints'?"),
        (("endpoints", "lst"), "Did you mean 'list'?"),
        (("logs", "f"), "there is `openlaunch endpoints logs`"),
        (("list",), "`openlaunch endpoints list`, "),
        (("secrets", "put"), "there is set, list, "),
        (("secrets", "create"), "there is set, list, "),
        (("predict", "f", '{"x": 1}'), "JSON is given with --args"),
        (("endpoints", "list", "--sever", "x"), "did you mean --server?"),
        (("tasks", "list", "--falied"), "did you mean --all or --failed?"),
    ],
)
def test_what_is_misspelled_is_answered_with_what_is_similar(cli, arguments, said):
    code, out, err = cli(*arguments)
    assert (code, out) == (2, "")
    assert said in err


@pytest.mark.parametrize("flag", ["--version", "-V"])
def test_the_version_has_its_option(cli, flag):
    code, out, _ = cli(flag)
    assert (code, out.split()[0]) == (0, "openlaunch")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_there_is_a_script_for_each_shell(cli, shell):
    code, out, _ = cli("completion", shell)
    assert (code, "_OPENLAUNCH_COMPLETE" in out) == (0, True)


def test_commands_options_and_endpoints_are_completed(cli, server, monkeypatch, capsys):
    monkeypatch.setenv("OPENLAUNCH_URL", server.url)
    monkeypatch.setenv("OPENLAUNCH_API_KEY", server.api_key)
    monkeypatch.setenv("_OPENLAUNCH_COMPLETE", "complete_bash")
    monkeypatch.setenv("COLUMNS", "80")  # to be restored

    def completed(*words):
        monkeypatch.setenv("COMP_WORDS", "\n".join(["openlaunch", *words]))
        monkeypatch.setenv("COMP_CWORD", str(len(words)))
        with pytest.raises(SystemExit):
            run(())
        return capsys.readouterr().out.split()

    assert completed("endp") == ["endpoints"]
    assert completed("endpoints", "l") == ["list", "logs"]
    assert "--follow" in completed("endpoints", "logs", "--f")
    with LaunchClient() as client:
        client.deploy(lambda: 1, name="complete-me", wait=False, cpus=0.1, memory="64Mi", min_workers=0)
    assert completed("endpoints", "get", "compl") == ["complete-me"]


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_a_help_is_one_line_that_the_shell_shows_whole(cli, monkeypatch, capsys, shell):
    monkeypatch.setenv("_OPENLAUNCH_COMPLETE", f"complete_{shell}")
    monkeypatch.setenv("_TYPER_COMPLETE_FISH_ACTION", "get-args")
    monkeypatch.setenv("_TYPER_COMPLETE_ARGS", "openlaunch endpoints ")
    monkeypatch.setenv("COLUMNS", "40")
    with pytest.raises(SystemExit):
        run(())
    lines = capsys.readouterr().out.splitlines()
    if shell == "fish":
        assert all("\t" in line for line in lines)
    (logs,) = [line for line in lines if line.lstrip('"').startswith("logs")]
    assert "what an endpoint\u2019s workers have printed, newest lines last" in logs
    assert "".join(lines).count("'") == (2 if shell == "zsh" else 0)

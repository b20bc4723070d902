"""Where builds find packages: settings before uv's variables, without passwords in what is shown."""

from pathlib import Path

import pytest

from openlaunch.engines.package_sources import PackageSources

SECRET = {"UV_EXTRA_INDEX_URL": "https://me:pass%2Fword@index.example/simple https://t0ken@other.example/"}


def test_settings_go_before_variables():
    environ = {"UV_TORCH_BACKEND": "cu128", "UV_INDEX_URL": "https://index.example", "PATH": "/bin"}
    sources = PackageSources.of(environ, "cpu", "https://a.example, https://b.example", "/srv/one,/srv/two")
    assert sources.variables == {
        "UV_TORCH_BACKEND": "cpu",
        "UV_INDEX_URL": "https://index.example",
        "UV_EXTRA_INDEX_URL": "https://a.example https://b.example",
        "UV_FIND_LINKS": "/srv/one,/srv/two",
    }


def test_the_key_has_what_changes_the_packages_and_no_password():
    assert PackageSources.of({"UV_HTTP_TIMEOUT": "3", "UV_CACHE_DIR": "/c"}).key() == {}
    key = PackageSources.of(SECRET, torch_backend="cpu").key()
    assert key == {
        "UV_TORCH_BACKEND": "cpu",
        "UV_EXTRA_INDEX_URL": "https://index.example/simple https://other.example/",
    }


@pytest.mark.parametrize("secret", ["me:pass%2Fword", "pass%2Fword", "pass/word", "t0ken"])
def test_passwords_are_hidden(secret):
    sources = PackageSources.of(SECRET)
    assert sources.hide(f"error: {secret} at https://{secret}@index") == "error: **** at https://****@index"
    assert "word" not in repr(sources)


def test_folders_are_those_that_are_there(tmp_path: Path):
    environ = {"UV_INDEX": f"mine=file://{tmp_path} https://index.example"}
    sources = PackageSources.of(environ, find_links=f"{tmp_path},/nothing/here,https://page.example")
    assert set(sources.folders()) == {tmp_path}

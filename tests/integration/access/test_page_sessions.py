"""The page's sessions over HTTP: who gets one, what it may do, and what other pages can't do with it."""

import re

import httpx2
import pytest
from server_driver import SMALL, args, http, problem

PAGE = {"X-Openlaunch-Page": "1"}
SAME_ORIGIN = {**PAGE, "Sec-Fetch-Site": "same-origin"}


def browser(client):
    """A browser that has no key: what it knows is in its cookies."""
    return httpx2.Client(base_url=client.server.url, timeout=60)


@pytest.fixture
def signed_in(client):
    with browser(client) as raw:
        answer = raw.post("/page/sign-in", json={"key": client.server.api_key}, headers=PAGE)
        assert answer.status_code == 200, answer.text
        yield raw


def test_the_page_and_its_files_are_there_without_a_key(client):
    with browser(client) as raw:
        page = raw.get("/")
        assert page.headers["content-type"].startswith("text/html")
        files = re.findall(r'(?:src|href)="(page/[a-z.]+)"', page.text)
        assert files == ["page/app.css", "page/app.js"]
        for path in ("", *files):
            answer = raw.get(f"/{path}")
            assert answer.status_code == 200
            policy = answer.headers["content-security-policy"]
            assert "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'" in policy
            assert "require-trusted-types-for 'script'" in policy
            assert "unsafe" not in policy
        assert raw.get("/page/../routes.py").status_code == 404
        assert raw.get("/page/nothing.js").status_code == 404


def test_a_session_has_a_cookie_that_scripts_and_other_sites_do_not_get(client):
    with browser(client) as raw:
        answer = raw.post("/page/sign-in", json={"key": client.server.api_key}, headers=PAGE)
    cookie = answer.headers["set-cookie"]
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= set(cookie.split("; "))
    assert "Secure" not in cookie
    assert client.server.api_key not in cookie
    assert answer.json()["role"] == "admin"


def test_a_session_does_what_its_key_may(client, signed_in):
    endpoint = client.deploy(lambda x: 2 * x, name="doubled", **SMALL).model_endpoint
    assert signed_in.get("/v1/whoami", headers=SAME_ORIGIN).json()["owner"] == "admin"
    answer = signed_in.post(
        f"/v1/sync-tasks?model_endpoint_id={endpoint.id}", json={"args": {"x": 4}}, headers=SAME_ORIGIN
    )
    assert answer.json()["result"] == {"result": "8"}


@pytest.mark.parametrize(
    "headers",
    [{}, {**PAGE, "Sec-Fetch-Site": "same-site"}, {**PAGE, "Sec-Fetch-Site": "cross-site"}],
    ids=["no-header", "another-port", "another-site"],
)
def test_a_request_that_another_page_makes_has_no_session(signed_in, headers):
    for method, path in (("GET", "/v1/whoami"), ("POST", "/v1/sync-tasks"), ("POST", "/page/sign-out")):
        assert problem(signed_in.request(method, path, headers=headers), 401)


EVIL = "https://evil.example"
WRITES = [
    ("/v1/keys", {"owner": "made-by-a-page"}),
    ("/v1/sync-tasks", {}),
    ("/e/any", {}),
    ("/v1/files", {}),
]


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": EVIL},
        {"Origin": "null"},
        {"Origin": EVIL, "Sec-Fetch-Site": "cross-site", "Content-Type": "text/plain"},
        {"Origin": EVIL, "Sec-Fetch-Site": "same-site"},
    ],
)
def test_another_page_can_not_use_a_key_that_the_browser_has_kept(client, headers):
    """A browser that has asked for a user name, which is the key, sends it with whatever any page sends."""
    with http(client) as kept:
        for path, body in WRITES:
            answer = kept.post(path, json=body, headers={"Content-Type": "application/json", **headers})
            assert problem(answer, 403)["code"] == "foreign_origin"
            answer = kept.post(
                path, content=b"x" * 10_000, headers={**headers, "X-HTTP-Method-Override": "GET"}
            )
            assert problem(answer, 403)["code"] == "foreign_origin"
        assert "made-by-a-page" not in kept.get("/v1/keys", headers=headers).text


def test_the_servers_own_pages_and_what_names_its_key_may_write(client):
    host = client.server.url.partition("://")[2]
    proxied = {"Origin": "https://of.a.proxy", "X-Forwarded-Host": "of.a.proxy"}
    for headers in ({"Origin": f"http://{host}"}, {"Sec-Fetch-Site": "same-origin", "Origin": EVIL}, proxied):
        with http(client) as kept:
            assert kept.post("/page/links", headers=headers).status_code == 200
    with browser(client) as raw:
        bearer = {"Origin": EVIL, "Authorization": f"Bearer {client.server.api_key}"}
        assert raw.post("/page/links", headers=bearer).status_code == 200


def test_another_page_can_not_sign_in(client):
    with browser(client) as raw:
        problem(raw.post("/page/sign-in", json={"key": client.server.api_key}), 403)


def test_what_is_wrong_is_said_without_the_dialog_of_a_browser(client):
    with browser(client) as raw:
        for answer in (
            raw.post("/page/sign-in", json={"key": "wrong"}, headers=PAGE),
            raw.post("/page/sign-in", json={}, headers=PAGE),
            raw.post("/page/sign-in", json={"link": "wrong"}, headers=PAGE),
            raw.get("/v1/whoami", headers=PAGE),
        ):
            assert problem(answer, 401)["code"] == "signed_out"
            assert not answer.headers["www-authenticate"].startswith("Basic")
        assert raw.get("/v1/whoami").headers["www-authenticate"].startswith("Basic")


def test_a_changed_cookie_is_not_a_session(signed_in):
    ((name, value),) = signed_in.cookies.items()
    key_id, ends, signature = value.split(".")
    other = signature[::-1]
    wrong = [
        *(f"{key_id}.{ends}.{other}", f"{key_id}.{int(ends) + 1}.{signature}", f"{key_id}.{ends}.", "", "."),
        *(f"key_other.{ends}.{signature}", f"{key_id}..{signature}", "\xff", value + "0"),
    ]
    for each in wrong:
        signed_in.cookies.clear()
        raw = signed_in.get("/v1/whoami", headers={**PAGE, "Cookie": f"{name}={each}".encode("latin-1")})
        assert raw.status_code == 401, each


def test_signing_out_takes_the_cookie_and_revoking_the_key_ends_all_of_its_sessions(client):
    made = client.create_api_key("somebody")
    with browser(client) as one, browser(client) as two:
        for raw in (one, two):
            raw.post("/page/sign-in", json={"key": made.api_key}, headers=PAGE)
            assert raw.get("/v1/whoami", headers=PAGE).json()["owner"] == "somebody"
        assert one.post("/page/sign-out", headers=PAGE).status_code == 204
        assert one.get("/v1/whoami", headers=PAGE).status_code == 401
        assert two.get("/v1/keys", headers=PAGE).status_code == 403
        client.revoke_api_key(made.id)
        assert two.get("/v1/whoami", headers=PAGE).status_code == 401


def test_a_link_signs_in_once(client):
    with http(client) as with_key, browser(client) as raw:
        link = with_key.post("/page/links").json()["link"]
        assert raw.post("/page/sign-in", json={"link": link}, headers=PAGE).json()["owner"] == "admin"
        assert raw.get("/v1/whoami", headers=PAGE).status_code == 200
        again = raw.post("/page/sign-in", json={"link": link}, headers=PAGE)
        assert "was used already" in problem(again, 401)["detail"]


def test_owners_see_nothing_of_each_other(client):
    endpoint = client.deploy(lambda x: 2 * x, name="not-theirs", **SMALL)
    endpoint.predict(args(x=1))
    made = client.create_api_key("stranger")
    with browser(client) as raw:
        raw.post("/page/sign-in", json={"key": made.api_key}, headers=PAGE)
        assert raw.get("/v1/model-endpoints", headers=PAGE).json() == {"model_endpoints": []}
        assert raw.get("/v1/model-endpoints?owner=*", headers=PAGE).status_code == 403
        path = f"/v1/model-endpoints/{endpoint.model_endpoint.id}"
        for part in ("", "/logs", "/events", "/why", "/metrics", "/workers", "/recordings"):
            assert raw.get(path + part, headers=PAGE).status_code == 404
        own = f"/page/endpoints/{endpoint.model_endpoint.id}"
        assert raw.get(own, headers=PAGE).status_code == 404
        assert raw.get(f"{own}?owner=admin", headers=PAGE).status_code == 403
        assert raw.get("/page/endpoints", headers=PAGE).json()["endpoints"] == []
        assert raw.get("/page/endpoints?owner=admin", headers=PAGE).status_code == 403
        link = raw.post("/page/links", headers=PAGE).json()["link"]
        assert raw.post("/page/sign-in", json={"link": link}, headers=PAGE).json()["owner"] == made.owner


def test_signing_in_is_in_the_audit_log_without_the_key(client, signed_in):
    with http(client) as raw:
        found = raw.get("/v1/audit-log", params={"action": "sign_in"}).json()["entries"]
    assert found[0]["owner"] == "admin"
    assert client.server.api_key not in str(found)

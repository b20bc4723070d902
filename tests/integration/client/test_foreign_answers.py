"""What comes in place of a server's answer is an error of ours that says so."""

import contextlib
import gzip

import pytest

from openlaunch.errors import APIError, ConnectionFailed

PAGE = b"<html>Sign in to the network</html>"
NO_JSON = "are not the JSON of an Openlaunch server"


@pytest.mark.parametrize(
    ("status", "headers", "body", "said"),
    [
        (200, {"content-type": "text/html; charset=utf-8"}, PAGE, "it is a page of HTML"),
        (206, {}, b"{}", r"a part \(206\) of what was asked for"),
        (200, {"content-encoding": "gzip"}, gzip.compress(b"{}"), "the Content-Encoding 'gzip'"),
        (200, {}, b"", NO_JSON),
        (204, {}, b"", NO_JSON),
        (200, {"content-type": "application/json"}, b'{"status": "SUCC', NO_JSON),
        (200, {}, b'["SUCCESS"]', NO_JSON),
        (200, {}, b'{"ok": true}', NO_JSON),
    ],
    ids=["page", "part", "gzip", "empty", "no content", "cut", "list", "other"],
)
@pytest.mark.parametrize("kind", ["sync", "async"])
def test_an_answer_that_no_openlaunch_server_gives_is_an_error_of_ours(
    both, server, kind, status, headers, body, said
):
    endpoint = both.endpoint(server, kind)
    server.routes[f"POST /v1/{kind}-tasks"] = lambda request: (status, headers, body)
    server.routes["GET /v1/model-endpoints"] = lambda request: (status, headers, body)
    with pytest.raises(ConnectionFailed, match=said) as caught:
        both.predict(endpoint)
    assert caught.value.sent
    assert "is not known: look before you send it again" in str(caught.value)
    with pytest.raises(ConnectionFailed, match=said):
        both.call(both.client.list_model_endpoints)


@pytest.mark.parametrize(("kind", "said"), [("text/html", "HTML"), ("application/json", "text/event-stream")])
def test_a_stream_of_another_type_is_an_error_that_names_it(both, server, kind, said):
    endpoint = both.endpoint(server, "streaming")
    server.routes["POST /v1/streaming-tasks"] = lambda request: (200, {"content-type": kind}, b"{}")
    with pytest.raises(ConnectionFailed, match=said):
        both.items(both.predict(endpoint))


@pytest.mark.parametrize(("kind", "times"), [("sync", 1), ("async", 2)])
def test_a_request_that_came_too_slowly_is_sent_again_where_that_is_safe(both, server, kind, times):
    endpoint = both.endpoint(server, kind)
    answers = [(408, {}, b"later"), (200, {}, b'{"task_id": "t"}')]
    server.routes[f"POST /v1/{kind}-tasks"] = lambda request: answers.pop(0)
    with contextlib.suppress(APIError):
        both.predict(endpoint)
    assert len(answers) == 2 - times

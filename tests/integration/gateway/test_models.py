"""OpenAI's routes, called by the unmodified `openai` package, with an engine that does as it is told."""

import gzip
import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import datetime

import httpx2
import pytest
from openai_driver import ROUTES, mock_engine, openai_client
from server_driver import DEADLINE, SMALL, eventually, http

from openlaunch import LaunchClient

HELLO = {"messages": [{"role": "user", "content": "hello"}]}
CHAT = "chat.completions.create"


@pytest.fixture(scope="module")
def endpoint(client):
    made = mock_engine(client, "chat", public_inference=True)
    mock_engine(client, "answers", "sync", routes=ROUTES[:1])
    client.deploy(lambda x: x, name="no-model", **SMALL)
    return made.wait_until_ready(60)


@pytest.fixture(scope="module")
def call(client, endpoint):
    with openai_client(client.server.url, client.server.api_key) as call:
        yield call


def text_of(chunks):
    return "".join(choice["delta"]["content"] or "" for chunk in chunks for choice in chunk["choices"])


def test_a_chat_is_answered_whole_and_in_pieces(call):
    whole = call(CHAT, model="chat", max_tokens=5, **HELLO)
    assert whole["answer"]["choices"][0]["message"]["content"] == " token" * 5
    assert whole["answer"]["usage"]["total_tokens"] == 15
    assert whole["answer"]["model"] == "chat"
    assert whole["request_id"].startswith("req_")
    usage = {"include_usage": True}
    streamed = call(CHAT, model="chat", max_tokens=5, stream=True, stream_options=usage, **HELLO)
    assert streamed["error"] is None
    assert text_of(streamed["chunks"]) == " token" * 5
    assert streamed["chunks"][-1]["usage"]["completion_tokens"] == 5


def test_completions_and_embeddings_are_of_the_same_engine(call):
    done = call("completions.create", model="chat", prompt="hello", max_tokens=4)
    assert done["answer"]["choices"][0]["text"] == " token" * 4
    embedded = call("embeddings.create", model="chat", input="hello", dimensions=100_000)
    assert embedded["answer"]["data"][0]["embedding"] == [0.5] * 100_000


def test_models_are_listed_and_looked_up(call, raw):
    listed = call("models.list")["answer"]
    assert [model["id"] for model in listed["data"]] == ["answers", "chat"]
    one = call("models.retrieve", model="chat")["answer"]
    assert (one["owned_by"], one["type"], one["display_name"]) == ("admin", "model", "chat")
    assert datetime.fromisoformat(one["created_at"]).timestamp() == one["created"]
    document = raw.get("/v1/models").json()
    assert (document["first_id"], document["last_id"], document["has_more"]) == ("answers", "chat", False)
    missing = call("models.retrieve", model="chatt")["error"]
    assert (missing["kind"], missing["code"]) == ("NotFoundError", "model_not_found")
    assert "near names: chat" in missing["message"]


def test_a_sync_endpoint_speaks_openai_too(call):
    assert call(CHAT, model="answers", **HELLO)["answer"]["choices"][0]["message"]["content"] == " token" * 3
    streamed = call(CHAT, model="answers", stream=True, **HELLO)
    assert text_of(streamed["chunks"]) == " token" * 3


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("chta", "near names: chat"),
        ("nobody/chat", "near names: chat"),
        ("no-model", "does not speak OpenAI"),
        ("x" * 5000, "models of yours: answers, chat"),
    ],
)
def test_an_unknown_model_is_404_with_names_that_are_near(call, model, message):
    error = call(CHAT, model=model, **HELLO)["error"]
    assert (error["kind"], error["code"]) == ("NotFoundError", "model_not_found")
    assert (error["type"], error["param"]) == ("invalid_request_error", "model")
    assert message in error["message"]
    assert len(error["message"]) < 1000


@pytest.mark.parametrize("base", ["", "/v1/v1"])
def test_a_wrong_base_url_is_told_of_as_clients_show_it(client, base):
    with openai_client(client.server.url, client.server.api_key, base) as elsewhere:
        error = elsewhere(CHAT, model="chat", **HELLO)["error"]
        assert error["kind"] == "NotFoundError"
        assert f"POST {base}/chat/completions; near paths: {ROUTES[0]}" in error["message"]
        unserved = elsewhere("moderations.create", input="x")["error"]
        hint = "leave /v1 out" if base else "/docs shows"
        assert f"nothing is served at POST {base}/moderations; {hint}" in unserved["message"]


def test_fine_tuning_is_501_with_what_to_use(call):
    error = call("fine_tuning.jobs.create", model="chat", training_file="file_1")["error"]
    assert (error["status"], "image job" in error["message"]) == (501, True)


@pytest.mark.parametrize("method", ["retrieve", "cancel", "delete", "input_items.list"])
def test_responses_that_were_stored_are_404_with_what_to_do(call, method):
    error = call(f"responses.{method}", response_id="resp_1")["error"]
    assert (error["kind"], error["code"]) == ("NotFoundError", "not_stored")
    assert "send the whole conversation" in error["message"]


@pytest.mark.parametrize("body", ["{}", '{"model": null}', '{"model": 1}', '{"model": ""}', "[]", '"chat"'])
def test_a_body_that_names_no_model_is_400(raw, endpoint, body):
    answer = raw.post(ROUTES[0], content=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "missing_model"
    assert answer.json()["detail"] == answer.json()["error"]["message"]


def test_what_is_not_json_is_400(raw, endpoint):
    answer = raw.post(ROUTES[0], content=b"{")
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_json")


def test_a_route_that_the_engine_lacks_is_400(call):
    error = call("embeddings.create", model="answers", input="x")["error"]
    assert (error["kind"], error["code"]) == ("BadRequestError", "unsupported_route")
    assert ROUTES[0] in error["message"]


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", ROUTES[0], "POST"),
        ("DELETE", "/v1/models/chat", "GET and HEAD"),
        ("PUT", "/v1/models", "GET and HEAD"),
    ],
)
def test_a_method_that_a_route_does_not_take_is_405_as_clients_show_it(raw, endpoint, method, path, allowed):
    answer = raw.request(method, path, json={})
    assert answer.status_code == 405
    assert answer.json()["error"]["type"] == "invalid_request_error"
    assert f"{method} {path}: this path takes {allowed}" in answer.json()["error"]["message"]


def test_keys_are_taken_as_clients_send_them(client, call, endpoint):
    assert call(CHAT, model="chat", key="sk-nothing", **HELLO)["error"]["kind"] == "AuthenticationError"
    with httpx2.Client(base_url=client.server.url) as raw:
        key = {"x-api-key": client.server.api_key}
        assert raw.post(ROUTES[0], json={"model": "chat"}, headers=key).status_code == 200
        assert raw.get("/v1/models", headers={"x-api-key": "sk-nothing"}).status_code == 401
        assert raw.get("/v1/models").json()["error"]["type"] == "authentication_error"


def test_another_owner_names_a_public_model_by_its_name_or_with_its_owner(client, endpoint):
    with http(client, client.create_api_key(owner="m-other", role="predict").api_key) as raw:
        assert [model["id"] for model in raw.get("/v1/models").json()["data"]] == ["chat"]
        for name in ("chat", "admin/chat"):
            answer = raw.post(ROUTES[0], json={"model": name, **HELLO})
            assert answer.json()["model"] == "chat"
        assert raw.post(ROUTES[0], json={"model": "answers", **HELLO}).status_code == 404


def test_what_stands_behind_a_colon_is_the_engines_own_model(raw, endpoint):
    body = b'{"model": "admin/chat:law", "seed": 36893488147419103232, "model": "chat:law"}'
    assert raw.post(ROUTES[0], content=body).json()["model"] == "law"


@pytest.mark.parametrize("fault", ["between", "inside", "half_event", "not_done", "error", "exit"])
def test_a_stream_that_breaks_is_an_error_and_never_a_clean_end(call, raw, endpoint, fault):
    broken = call(CHAT, model="chat", stream=True, max_tokens=9, extra_body={"fault": fault}, **HELLO)
    assert broken["error"]["kind"] == "APIError"
    if fault != "exit" or broken["error"]["code"] != "worker_died":  # the worker ends with its engine
        assert broken["error"]["code"] == "engine_failed"
        assert "POST /v1/chat/completions of the command" in broken["error"]["message"]
    assert text_of(broken["chunks"]) == " token" * 3
    body = {"model": "chat", "stream": True, "max_tokens": 9, "fault": fault}
    eventually(lambda: raw.post(ROUTES[0], json={"model": "chat"}).status_code == 200)
    assert "[DONE]" not in raw.post(ROUTES[0], json=body).text.replace('data: [DONE]"', "")
    eventually(lambda: raw.post(ROUTES[0], json={"model": "chat"}).status_code == 200)


def test_requests_wait_while_an_engine_that_has_died_is_replaced(raw, client, endpoint):
    """It listens no longer, and takes a while to end, as engines do whose model has died."""
    mock_engine(client, "deaf").wait_until_ready(120)
    fault = {"model": "deaf", "stream": True, "max_tokens": 9, "fault": "deaf", "ends_after": 20}
    assert '"code": "engine_failed"' in raw.post(ROUTES[0], json=fault).text
    body = {"model": "deaf", "stream": True}
    with ThreadPoolExecutor() as pool:
        answers = list(pool.map(lambda _: raw.post(ROUTES[0], json=body, timeout=DEADLINE), range(8)))
    assert [answer.status_code for answer in answers] == [200] * 8
    assert all(answer.text.endswith("data: [DONE]\n\n") for answer in answers)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "BadRequestError"),
        (429, "RateLimitError"),
        (499, "APIStatusError"),
        (503, "InternalServerError"),
        (529, "InternalServerError"),
    ],
)
def test_what_the_engine_refuses_is_its_own_answer(call, raw, endpoint, status, kind):
    fault = {"fault": "status", "status": status}
    for stream in (False, True):
        error = call(CHAT, model="chat", stream=stream, extra_body=fault, **HELLO)["error"]
        assert (error["kind"], error["code"]) == (kind, "of_engine")
    answer = raw.post(ROUTES[0], json={"model": "chat", **fault})
    assert answer.headers.get("retry-after") == ("7" if status == 429 else None)


def test_a_redirect_of_the_engine_is_not_followed(call):
    fault = {"fault": "status", "status": 302}
    error = call(CHAT, model="chat", extra_body=fault, **HELLO)["error"]
    assert (error["status"], error["code"]) == (502, "engine_failed")


def test_a_stream_that_the_engine_answers_whole_is_passed_on_as_it_is(raw, endpoint):
    answer = raw.post(ROUTES[0], json={"model": "chat", "stream": True, "fault": "json"})
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["choices"][0]["text"] == " token" * 3


def seen(raw):
    answer = raw.post(ROUTES[0], json={"model": "chat", "seen": True})
    return json.loads(answer.json()["choices"][0]["message"]["content"])


@pytest.mark.parametrize("body", [{"stream": True, "max_tokens": 10**6}, {"fault": "hang"}])
def test_an_engine_stops_when_its_caller_leaves(client, raw, endpoint, body):
    before = seen(raw)["left"]
    with httpx2.Client(base_url=client.server.url, auth=(client.server.api_key, "")) as leaving:
        timeout = httpx2.Timeout(30, read=0.5)
        try:
            with leaving.stream("POST", ROUTES[0], json={"model": "chat", **body}, timeout=timeout) as answer:
                next(answer.iter_raw())
        except httpx2.ReadTimeout:
            assert body.get("fault") == "hang"
    eventually(lambda: seen(raw)["left"] == before + 1)


def test_connections_to_the_engine_are_kept(raw, endpoint):
    before = seen(raw)["connections"]
    for _ in range(10):
        after = seen(raw)["connections"]
    assert after <= before + 1


def test_all_of_a_large_stream_comes(raw, endpoint):
    before = seen(raw)["left"]
    body = {"model": "chat", "stream": True, "max_tokens": 100, "width": 10_000}
    with raw.stream("POST", ROUTES[0], json=body) as answer:
        assert len(answer.read()) > 100 * 2 * 60_000
    assert seen(raw)["left"] == before


def test_compressed_bodies_are_taken(raw, endpoint):
    body = gzip.compress(json.dumps({"model": "chat", **HELLO}).encode())
    assert raw.post(ROUTES[0], content=body, headers={"content-encoding": "gzip"}).status_code == 200


def test_a_large_body_is_passed_on(raw, endpoint):
    content = [
        {"role": "user", "content": "x" * 3_000_000},
        *({"role": "user", "content": "y"} for _ in range(30_000)),
    ]
    answer = raw.post(ROUTES[0], json={"model": "admin/chat", "messages": content})
    # Nothing of an engine's answer runs in a browser.
    assert "sandbox" in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.json()["choices"][0]["finish_reason"] == "stop"


MORE = [
    *("/v1/responses", "/v1/messages", "/v1/messages/count_tokens"),
    *("/v1/rerank", "/v1/audio/transcriptions", "/v1/audio/speech"),
]


@pytest.fixture(scope="module")
def more(client, endpoint):
    """A model that serves further routes, and has further names."""
    made = mock_engine(client, "more", routes=MORE, names=["gpt-small", "whisper"], public_inference=True)
    return made.wait_until_ready(120)


def test_responses_pass_through(call, client, more):
    whole = call("responses.create", model="more", input="hello")["answer"]
    assert whole["output"][0]["content"][0]["text"] == " token" * 3
    streamed = call("responses.create", model="more", input="hello", stream=True)
    assert streamed["error"] is None
    assert [chunk["type"] for chunk in streamed["chunks"]] == [
        *("response.created", "response.output_item.added", "response.content_part.added"),
        *["response.output_text.delta"] * 3,
        "response.completed",
    ]
    helped = call("responses.stream", model="more", input="hello")
    assert helped["error"] is None
    assert helped["answer"]["output"][0]["content"][0]["text"] == " token" * 3
    broken = call(
        "responses.create", model="more", input="x", stream=True, max_output_tokens=9, extra_body=UNDONE
    )
    assert (broken["error"]["kind"], broken["error"]["code"]) == ("APIError", "engine_failed")


@pytest.mark.parametrize(
    "stored", [{"previous_response_id": "resp_1"}, {"conversation": "conv_1"}, {"background": True}]
)
@pytest.mark.parametrize("size", [1, 300_000])
def test_a_response_that_goes_on_from_a_stored_one_is_refused_and_not_answered_without_it(
    call, more, stored, size
):
    error = call("responses.create", model="more", input="x" * size, **stored)["error"]
    assert (error["kind"], error["code"]) == ("BadRequestError", "not_stored")
    unset = dict.fromkeys(stored) | {"background": False}
    assert call("responses.create", model="more", input="x", **unset)["error"] is None


UNDONE = {"fault": "not_done", "max_tokens": 9}


def test_messages_pass_through_and_errors_have_the_shape_of_their_clients(raw, more):
    body = {"model": "more", "max_tokens": 5, "stream": True}
    streamed = raw.post("/v1/messages", json=body).text
    assert streamed.startswith("event: message_start\n")
    assert streamed.endswith('event: message_stop\ndata: {"type": "message_stop"}\n\n')
    broken = raw.post("/v1/messages", json={**body, **UNDONE}).text
    last = broken.rstrip().rpartition("\n\n")[2]
    assert last.startswith("event: error\ndata: ")
    error = json.loads(last.partition("data: ")[2])
    assert (error["type"], error["error"]["type"]) == ("error", "api_error")
    missing = raw.post("/v1/messages", json={"model": "mor"})
    assert missing.status_code == 404
    assert (missing.json()["type"], missing.json()["error"]["type"]) == ("error", "not_found_error")


def test_tokens_of_messages_are_counted_by_engines_that_can(raw, more):
    body = {"model": "more", "messages": [{"role": "user", "content": "hello"}]}
    assert raw.post("/v1/messages/count_tokens", json=body).json() == {"input_tokens": 10}
    refused = raw.post("/v1/messages/count_tokens", json={**body, "model": "chat"})
    assert (refused.status_code, refused.json()["type"]) == (400, "error")
    assert refused.json()["error"]["type"] == "invalid_request_error"
    assert "does not serve /v1/messages/count_tokens" in refused.json()["error"]["message"]


def test_their_tokens_are_measured(client, raw, more):
    def counted():
        return client.get_endpoint_metrics("more").since_start.tokens

    before = counted()
    raw.post("/v1/messages", json={"model": "more", "max_tokens": 5, "stream": True})
    raw.post("/v1/responses", json={"model": "more", "max_tokens": 5, "stream": True})
    after = eventually(lambda: (found := counted())["output"] - before["output"] >= 10 and found)
    assert {name: after[name] - before[name] for name in after} == {"input": 20, "output": 10, "cached": 0}


def test_files_go_to_models_as_forms(call, raw, more):
    sent = {"model": (None, "more"), "file": ("a.wav", b"spoken words")}
    answer = raw.post("/v1/audio/transcriptions", files=sent).json()
    assert answer == {"text": "spoken words", "model": "more"}
    by_owner = raw.post("/v1/audio/transcriptions", files={**sent, "model": (None, "admin/more:law")})
    assert by_owner.json() == {"text": "spoken words", "model": "law"}
    nameless = raw.post("/v1/audio/transcriptions", files={"file": ("a.wav", b"x")})
    assert (nameless.status_code, nameless.json()["code"]) == (400, "missing_model")
    not_a_form = raw.post("/v1/audio/transcriptions", json={"model": "more"})
    assert (not_a_form.status_code, not_a_form.json()["code"]) == (400, "invalid_form")
    assert raw.post("/v1/rerank", json={"model": "whisper"}).json()["results"][0]["index"] == 0


def test_audio_comes_as_it_is_made_and_breaks_off_where_the_engine_does(raw, more):
    def spoken(**given):
        return raw.stream("POST", "/v1/audio/speech", json={"model": "more", "input": "x", **given})

    sound = b'\0ID3\n\n"total_tokens": 1'
    with spoken(max_tokens=5) as answer:
        assert answer.headers["content-type"].startswith("audio/mpeg")
        assert b"".join(answer.iter_raw()) == 5 * sound
    with spoken(max_tokens=10**6) as answer:
        assert next(answer.iter_raw()).startswith(sound)
    with pytest.raises(httpx2.TransportError), spoken(max_tokens=9, fault="inside") as answer:
        answer.read()
    kept = {"json": {"model": "more", "stream": True}, "headers": {"openlaunch-resume": "true"}}
    assert raw.post("/v1/audio/speech", **kept).content == 3 * sound


def test_a_model_has_further_names(client, call, raw, more):
    assert {"more", "gpt-small", "whisper"} <= {
        model["id"] for model in call("models.list")["answer"]["data"]
    }
    assert call("responses.create", model="gpt-small", input="x")["answer"]["model"] == "more"
    assert "near names: gpt-small" in raw.post("/v1/rerank", json={"model": "gpt-smal"}).json()["detail"]
    with http(client, client.create_api_key(owner="m-alias", role="predict").api_key) as other:
        assert other.post("/v1/rerank", json={"model": "whisper"}).json()["model"] == "more"


def test_nobody_gets_what_is_meant_for_anothers_model_by_the_name_of_an_endpoint(client, more):
    """By GET it is seen whose model a name is, without a worker."""
    keys = [client.create_api_key(owner=f"m-{each}").api_key for each in ("shadow", "caller", "second")]
    with ExitStack() as stack:
        shadow, own, second = (
            stack.enter_context(LaunchClient(api_key=key, endpoint=client.server.url)) for key in keys
        )
        mine, others = (stack.enter_context(http(client, key)) for key in (client.server.api_key, keys[1]))

        def owner_of(name, raw):
            found = raw.get(f"/v1/models/{name}").json()
            return found.get("owned_by", found.get("code"))

        for each in (shadow, second):
            mock_engine(each, "gpt-small", min_workers=0, public_inference=True)
        mock_engine(shadow, "m-other", names=["m-mine"], min_workers=0, public_inference=True)
        assert owner_of("gpt-small", mine) == "admin"
        assert owner_of("gpt-small", others) == "endpoint_ambiguous"
        assert owner_of("m-second/gpt-small", others) == "m-second"
        assert owner_of("m-mine", others) == "m-shadow"
        mock_engine(second, "m-mine", min_workers=0, public_inference=True)
        assert owner_of("m-mine", others) == "endpoint_ambiguous"
        mock_engine(own, "m-last", names=["m-mine"], min_workers=0)
        assert owner_of("m-mine", others) == "m-caller"


def test_a_canary_that_answers_5xx_is_rolled_back_and_4xx_is_the_callers(client, raw, endpoint):
    mock_engine(client, "rolled").wait_until_ready(120)
    mock_engine(client, "overloaded", env={"STATUS": "503"})
    refuse = {"model": "rolled", "fault": "status", "status": 400}

    def canary():
        return client.get_model_endpoint("rolled").model_endpoint.canary

    client.start_canary("rolled", "chat", percent=50, rollback_after_failures=3)
    client.wait_for_canary("rolled", 120)
    assert {raw.post(ROUTES[0], json=refuse).status_code for _ in range(20)} == {400}
    assert (canary().status, canary().canary.failures) == ("SERVING", 0)
    client.roll_back_canary("rolled")
    client.start_canary("rolled", "overloaded", percent=50, rollback_after_failures=3)
    client.wait_for_canary("rolled", 120)
    statuses = [raw.post(ROUTES[0], json={"model": "rolled"}).status_code for _ in range(20)]
    assert statuses.count(503) == 3
    assert statuses.count(200) == 17
    eventually(lambda: canary().status == "FAILED")


def test_a_canary_whose_first_token_is_late_is_rolled_back(client, raw, endpoint):
    mock_engine(client, "quick").wait_until_ready(120)
    mock_engine(client, "late", env={"FIRST_MS": "700"})
    client.start_canary("quick", "late", percent=50, rollback_after_failures=3, first_item_seconds=0.5)
    client.wait_for_canary("quick", 120)
    answers = [raw.post(ROUTES[0], json={"model": "quick", "stream": True}) for _ in range(8)]
    assert {answer.text.endswith("data: [DONE]\n\n") for answer in answers} == {True}
    canary = eventually(
        lambda: (
            (found := client.get_model_endpoint("quick").model_endpoint.canary).status == "FAILED" and found
        )
    )
    assert (canary.first_item_seconds, canary.canary.failures) == (0.5, 3)
    assert "the first item came after 0." in canary.reason
    assert "0.5 s are allowed" in canary.reason

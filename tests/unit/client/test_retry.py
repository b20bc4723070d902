import pytest

from openlaunch.client.effects import Attempt, Pause, Request, Response
from openlaunch.client.retry import RetryPolicy, TransportFailure, exchange
from openlaunch.errors import APIError, ConnectionFailed, NotFound, TooManyRequests, Unavailable, WorkerDied

GET = Request("GET", "/v1/things", idempotent=True)
POST = Request("POST", "/v1/sync-tasks")
OK = Response(200, {}, b"{}")
REFUSED = TransportFailure("refused", sent=False)
DEFAULT = RetryPolicy()
BROKEN = TransportFailure("broken", sent=True)


class World:
    """Answers attempts from a list and lets time pass virtually."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.now = 0.0
        self.pauses = []

    def run(self, request, policy=DEFAULT):
        flow = exchange(request, policy, clock=lambda: self.now, rand=lambda: 1.0)
        effect = next(flow)
        try:
            while True:
                if isinstance(effect, Pause):
                    self.now += effect.seconds
                    self.pauses.append(effect.seconds)
                    effect = flow.send(None)
                    continue
                assert isinstance(effect, Attempt)
                answer = self.answers.pop(0)
                effect = flow.throw(answer) if isinstance(answer, Exception) else flow.send(answer)
        except StopIteration as stop:
            return stop.value


def test_a_good_answer_is_given_at_once():
    world = World(OK)
    assert world.run(GET) is OK
    assert world.pauses == []


def test_waits_double_up_to_the_ceiling():
    world = World(REFUSED, REFUSED, REFUSED, REFUSED, OK)
    policy = RetryPolicy(max_retries=4, base=0.1, ceiling=0.3)
    assert world.run(GET, policy) is OK
    assert world.pauses == [0.1, 0.2, 0.3, 0.3]


def test_an_idempotent_request_is_sent_again_after_a_broken_connection():
    assert World(BROKEN, OK).run(GET) is OK


def test_other_requests_are_not_sent_again_once_they_may_have_arrived():
    world = World(BROKEN, OK)
    with pytest.raises(ConnectionFailed, match="broken"):
        world.run(POST)
    assert world.answers == [OK]


def test_other_requests_are_sent_again_when_nothing_was_sent():
    assert World(REFUSED, OK).run(POST) is OK


def refusal(code):
    return Response(503, {}, b'{"code": "%s"}' % code.encode())


def test_a_refusal_by_the_server_is_retried_for_any_request():
    assert World(Response(429, {}), refusal("stopping"), OK).run(POST) is OK


@pytest.mark.parametrize(
    "answer", [refusal("interrupted"), refusal("cancelled"), Response(503, {}, b"upstream reset")]
)
def test_after_any_other_503_only_what_is_idempotent_is_sent_again(answer):
    with pytest.raises(Unavailable):
        World(answer, OK).run(POST)
    assert World(answer, OK).run(GET) is OK


@pytest.mark.parametrize("status", [502, 503, 504])
def test_a_proxy_without_a_server_is_as_good_as_no_connection(status):
    answer = Response(status, {}, b"<html><body><h1>Bad Gateway</h1></body></html>")
    with pytest.raises(APIError):
        World(answer, OK).run(POST)
    world = World(*[answer] * 15, OK)
    patient = Request("POST", "/v1/streaming-tasks", idempotent=True, patience=60)
    assert world.run(patient) is OK


def test_a_502_of_the_server_is_an_answer():
    answer = Response(502, {}, b'{"code": "worker_died", "request_id": "req_1"}')
    with pytest.raises(WorkerDied):
        World(answer, OK).run(GET)


@pytest.mark.parametrize(
    ("asked", "end"),
    [
        (
            Request("POST", "/v1/sync-tasks", prediction=True),
            "look before you send it again, or give it an idempotency_key",
        ),
        (
            Request("POST", "/v1/streaming-tasks", prediction=True, stream=True),
            "look before you send it again",
        ),
        (
            Request("POST", "/v1/async-tasks", headers={"idempotency-key": "k"}, idempotent=True),
            "look before you send it again",
        ),
        (GET, "refused"),
    ],
)
def test_the_error_says_what_is_unknown_once_the_server_may_have_the_request(asked, end):
    with pytest.raises(ConnectionFailed) as caught:
        World(BROKEN, *[REFUSED] * 9).run(asked)
    assert caught.value.sent
    assert str(caught.value).endswith(end)


def test_the_error_says_that_nothing_was_sent():
    with pytest.raises(ConnectionFailed, match=r"^refused$") as caught:
        World(*[REFUSED] * 9).run(POST)
    assert not caught.value.sent


def test_retry_after_is_honoured():
    world = World(Response(429, {"retry-after": "7"}), OK)
    world.run(POST)
    assert 7 <= world.pauses[0] <= 7.71


def test_a_retry_after_beyond_the_total_time_ends_at_once():
    world = World(Response(503, {"retry-after": "120"}), OK)
    with pytest.raises(Unavailable) as caught:
        world.run(GET)
    assert caught.value.retry_after == 120
    assert world.pauses == []


def test_the_number_of_retries_is_bounded():
    world = World(*[Response(429, {})] * 10)
    with pytest.raises(TooManyRequests):
        world.run(GET, RetryPolicy(max_retries=2))
    assert len(world.answers) == 7


def test_other_errors_are_not_retried():
    world = World(Response(404, {}, b'{"detail": "no such thing"}'), OK)
    with pytest.raises(NotFound, match="no such thing"):
        world.run(GET)


def test_a_patient_request_outlasts_an_outage_beyond_the_number_of_retries():
    world = World(*[REFUSED] * 15, OK)
    patient = Request("GET", "/v1/async-tasks/1", idempotent=True, patience=60)
    assert world.run(patient, RetryPolicy(max_retries=1)) is OK
    assert 20 < world.now < 60


def test_patience_has_an_end():
    world = World(*[REFUSED] * 200)
    patient = Request("GET", "/v1/async-tasks/1", idempotent=True, patience=30)
    with pytest.raises(ConnectionFailed):
        world.run(patient)
    assert world.now <= 32


def test_jitter_spreads_the_waits():
    policy = RetryPolicy()
    shortest = policy.delay(REFUSED, GET, 1, 0.0, 0.0)
    longest = policy.delay(REFUSED, GET, 1, 0.0, 1.0)
    assert shortest == longest / 2

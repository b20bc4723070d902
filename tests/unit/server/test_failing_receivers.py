"""An endpoint's callbacks fail once three attempts in a row fail at one receiver, until it takes one."""

import pytest

from openlaunch.server.queue import failing_receivers
from openlaunch.server.queue.failing_receivers import FailingReceivers
from openlaunch.tasks.outbox import Attempt, Delivery
from openlaunch.wire.events import EventKind
from openlaunch.wire.tasks import DeliveryStatus

FAIL, TAKEN = EventKind.CALLBACKS_FAIL, EventKind.CALLBACKS_TAKEN


@pytest.fixture
def told():
    return []


@pytest.fixture
def attempted(told):
    """Counts one attempt for each letter: of the first receiver a or A, of another one b or B; capitals are taken."""
    receivers = FailingReceivers(lambda *event: told.append(event))

    def attempted(letters, endpoint_id="end_1", failures=0):
        for letter in letters:
            receiver = f"{letter.lower()}.example"
            delivery = Delivery(
                *("dlv_1", "task_1", endpoint_id, "ada", receiver, f"https://{receiver}/hook", None),
                *(DeliveryStatus.PENDING, 0.0, 0.0, None, failures, ()),
            )
            error = None if letter.isupper() else "ConnectError: refused"
            receivers.attempted(delivery, Attempt(0.0, 0.1, None, error))
        return receivers

    return attempted


def test_the_third_failure_is_told_with_the_receiver_and_the_first_that_is_taken(told, attempted):
    attempted("aa")
    assert told == []
    attempted("aaa")
    assert told == [("end_1", FAIL, "a.example: ConnectError: refused")]
    attempted("AA")
    assert told[1:] == [("end_1", TAKEN, "by a.example")]


def test_failures_before_the_servers_start_count(told, attempted):
    attempted("a", failures=4)
    attempted("a", failures=5)
    assert [kind for _, kind, _ in told] == [FAIL]


def test_receivers_and_endpoints_are_counted_apart(told, attempted):
    attempted("aBaBa")
    attempted("aa", "end_2")
    assert told == [("end_1", FAIL, "a.example: ConnectError: refused")]
    attempted("bbbA")
    assert [kind for _, kind, _ in told] == [FAIL, FAIL]
    attempted("B")
    assert told[2:] == [("end_1", TAKEN, "by b.example")]


def test_notifications_are_of_no_endpoint_and_what_is_remembered_is_bounded(told, attempted, monkeypatch):
    monkeypatch.setattr(failing_receivers, "MAX_ENDPOINTS", 2)
    monkeypatch.setattr(failing_receivers, "MAX_RECEIVERS", 3)
    attempted("aaaa", "")
    assert told == []
    for number in range(5):
        receivers = attempted("abcdef", f"end_{number}")
    assert [*map(len, receivers._failures.values())] == [3, 3]
    assert attempted("ABCDEF", "end_4")._failures.keys() == {"end_3"}

"""Where load_model_fn runs: in the thread that calls predict, where there is one."""

import pytest
from server_driver import SMALL, args, running

from openlaunch.errors import EndpointFailed


def sqlite_database():
    import sqlite3

    database = sqlite3.connect(":memory:")  # which only its own thread may use
    database.execute("create table numbers as select 7 as number")
    return database


def number_in(database):
    return database.execute("select number from numbers").fetchone()[0]


def numbers_in(database):
    yield number_in(database)


def local_state():
    import threading

    state = threading.local()
    state.mode = "inference"
    return state


def mode_of(state):
    return getattr(state, "mode", "not set")


def with_signal_handler():
    import signal

    signal.signal(signal.SIGALRM, lambda *_: None)  # which only the main thread may do
    return "loaded"


def loaded(model):
    return model


@pytest.fixture(scope="module")
def deployed():
    with running() as client:
        yield lambda fn, load, **given: client.deploy(
            fn, name=fn.__name__.replace("_", "-"), load_model_fn=load, **{**SMALL, **given}
        )


def test_what_belongs_to_the_thread_that_loads_works_in_predictions(deployed):
    assert deployed(number_in, sqlite_database).predict(args()).value == 7
    assert deployed(mode_of, local_state).predict(args()).value == "inference"


def test_what_belongs_to_the_thread_that_loads_works_in_streams(deployed):
    endpoint = deployed(numbers_in, sqlite_database)
    assert [item.value for item in endpoint.predict(args())] == [7]


def test_what_belongs_to_the_thread_that_loads_works_in_batches(deployed):
    def modes_of(state, inputs):
        return [getattr(state, "mode", "not set") for _ in inputs]

    endpoint = deployed(modes_of, local_state, max_batch_size=4)
    assert endpoint.predict(args(x=1)).value == "inference"


def test_loading_that_needs_the_main_thread_is_done_there(deployed):
    assert deployed(loaded, with_signal_handler).predict(args()).value == "loaded"


def test_an_error_of_loading_in_a_thread_is_the_reason(deployed):
    def fails():
        raise OSError("no weights")

    with pytest.raises(EndpointFailed, match="load_model_fn failed: OSError: no weights"):
        deployed(loaded, fails)


def test_a_missing_file_says_what_a_worker_sees(deployed):
    def missing():
        from pathlib import Path

        return Path("/tmp/weights-that-are-elsewhere").read_text()

    with pytest.raises(EndpointFailed, match="code_dir"):
        deployed(loaded, missing)

import json

from openlaunch_worker import failures
from openlaunch_worker.answers import success
from openlaunch_worker.failures import Refusal, described, explain, one_line, user_traceback


def caught(call):
    try:
        call()
    except BaseException as error:
        return error
    raise AssertionError("it did not raise")


def fail():
    raise ValueError("broken")


def test_the_traceback_has_the_users_frames():
    text = user_traceback(caught(fail))
    assert text.startswith("Traceback (most recent call last):")
    assert "in fail" in text
    assert text.endswith("ValueError: broken\n")


def test_frames_of_the_runtime_are_left_out():
    text = user_traceback(caught(lambda: success(1j, 10)))
    assert "openlaunch_worker/answers.py" not in text
    assert __file__ in text


def test_frames_of_the_runtime_are_left_out_of_causes_too():
    def call():
        try:
            success(1j, 10)
        except Refusal as error:
            raise LookupError("second") from error

    text = user_traceback(caught(call))
    assert "direct cause" in text
    assert "openlaunch_worker/answers.py" not in text


def test_frames_of_the_runtime_are_left_out_of_groups_too():
    def call():
        raise ExceptionGroup("several", [caught(lambda: success(1j, 10)), caught(fail)])

    text = user_traceback(caught(call))
    assert "ValueError: broken" in text
    assert "openlaunch_worker/answers.py" not in text


def test_causes_in_a_circle_end():
    first, second = ValueError("first"), ValueError("second")
    first.__cause__, second.__cause__ = second, first
    assert "first" in user_traceback(first)


def test_a_huge_message_is_cut_in_the_middle():
    text = user_traceback(ValueError("x" * 1_000_000 + "the end"))
    assert len(text) < failures.MAX_TEXT + 100
    assert "characters left out" in text
    assert text.endswith("the end\n")


def test_an_exception_whose_text_can_not_be_made_is_told():
    class Odd(Exception):
        def __str__(self):
            raise RuntimeError

    assert "Odd" in user_traceback(Odd())
    assert "Odd" in one_line(Odd())


def test_one_line_is_one_line():
    assert one_line(ValueError("a\nb")) == "ValueError: a b"


def test_one_line_is_bounded():
    assert len(one_line(ValueError("x" * 5000))) == failures.MAX_LINE


def test_a_refusal_is_explained_by_its_message():
    assert explain(Refusal("no", 400)) == ("no", 400, None)


def test_anything_else_is_explained_by_its_traceback_type_and_message():
    text, status_code, error = explain(caught(fail))
    assert text.endswith("ValueError: broken\n")
    assert (status_code, error) == (500, {"type": "ValueError", "message": "broken"})


def test_a_foreign_caller_sees_the_type_alone():
    text, status_code, error = explain(caught(fail), foreign=True)
    assert (text, status_code, error) == (
        "the model raised ValueError; only the owner of the endpoint sees more",
        500,
        None,
    )


def test_a_message_has_its_notes_and_the_first_exceptions_of_a_group():
    error = ExceptionGroup("several", [caught(fail), KeyError("x"), *[OSError(n) for n in range(9)]])
    error.add_note("while loading")
    assert described(error) == (
        "ExceptionGroup",
        "several (11 sub-exceptions)\nwhile loading\nValueError: broken\nKeyError: 'x'\nOSError: 0",
    )


def test_a_type_is_named_with_its_module():
    assert described(json.JSONDecodeError("no", "", 0))[0] == "json.decoder.JSONDecodeError"


def test_type_and_message_are_bounded_and_unicode():
    kind, message = described(type("T" * 5000, (Exception,), {})("\udce9" + "x" * 5000))
    assert len(kind) == len(message) == failures.MAX_LINE
    assert message.startswith("\\udce9x")

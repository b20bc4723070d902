r"""The finished bytes of answers, as the contract has them; the gateway passes them on as they are.

The answer to a request is one JSON object, in which the return value is JSON text inside a string. A stream
is server-sent events whose `data` is the same object, in which an item is itself.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from openlaunch_worker.dataframes import is_frame
from openlaunch_worker.failures import Refusal
from openlaunch_worker.files import PARTS
from openlaunch_worker.frames import MAX_PAYLOAD, Flags, Outcome, end_of_parts
from openlaunch_worker.values import (
    WRITTEN,
    Binary,
    Parts,
    apart,
    binary_of,
    check_keys,
    looks_numbered,
    npy_of,
    plain,
    plain_marked,
    table_of,
    typed_apart,
    typed_marked,
    with_text_keys,
)

_BINARY, _NPY, _ARROW, _MULTIPART = map(int, (Flags.BINARY, Flags.NPY, Flags.ARROW, Flags.MULTIPART))
_NOT_ACCEPTABLE: Final = 406

END_EVENT: Final = b"event: end\n\n"

HEAD: Final = b'{"status": "SUCCESS", "result": {"result": '
TAIL: Final = b'}, "traceback": null, "status_code": 200}'
"""What stands before and behind the value of an answer that succeeded."""
_EVENT_HEAD: Final = b"data: " + HEAD
_EVENT_TAIL: Final = TAIL + b"\n\n"

_to_string: Final = json.encoder.encode_basestring_ascii


def _encoder(default: Callable[[Any], Any]) -> Callable[[Any, int], Iterable[str]] | None:
    """Return the encoder in C that `JSONEncoder` makes anew for each value, which takes longer than most values do.

    It does not look out for circles, which end as a RecursionError. None where this Python has another one.
    """
    try:
        made: Callable[[Any, int], Iterable[str]] = json.encoder.c_make_encoder(  # type: ignore[attr-defined]
            None,
            default,
            json.encoder.encode_basestring_ascii,
            None,
            ": ",
            ", ",
            False,
            False,
            False,
        )
        return made if "".join(made({"a": [1, "b", None]}, 0)) == '{"a": [1, "b", null]}' else None
    except (AttributeError, TypeError):
        return None


class _Writer:
    """Writes values as JSON; `instead` gives what stands for those that JSON does not have."""

    def __init__(self, instead: Callable[[Any], Any]) -> None:
        self.instead = instead
        self._quick = _encoder(instead)
        self._careful = json.JSONEncoder(allow_nan=False, default=instead)

    def write(self, value: Any) -> str:
        if (quick := self._quick) is None:
            return self._careful.encode(value)
        try:
            return "".join(quick(value, 0))
        except MemoryError:
            raise
        except Exception:
            WRITTEN.parts = None
            return self._careful.encode(value)  # it says what is wrong


_PLAIN: Final = _Writer(plain)
_MARKED: Final = _Writer(plain_marked)
_TYPED: Final = _Writer(typed_marked)
_APART: Final = _Writer(apart)
_TYPED_APART: Final = _Writer(typed_apart)

_PICKLE_HINT: Final = "return JSON types, or ask for the result with return_pickled=True"
_STREAM_HINT: Final = "yield JSON types"


def success(value: Any, max_bytes: int, as_typed: bool = False) -> bytes:
    """Return the answer with a value, in which bytes and arrays are marked where it is `as_typed`.

    Raise `Refusal` if it is not JSON, or larger than `max_bytes`.
    """
    text = _encode(value, "return value", _PICKLE_HINT, max_bytes, _TYPED if as_typed else _MARKED)
    string = _to_string(text)
    if (parts := _parts_taken()) is not None:
        _check_size(parts.size(text), "return value", max_bytes)
    del text  # of a large value, as few copies as can be
    data = [string.encode()] if parts is None else parts.in_text(string)
    del string
    return b"".join((HEAD, *data, TAIL))


def _parts_taken() -> Parts | None:
    """Return what stands beside the JSON of the value that was written last, if there is something."""
    if (parts := WRITTEN.parts) is not None:
        WRITTEN.parts = None
    return parts


def in_parts(value: Any, max_bytes: int, as_typed: bool) -> tuple[Outcome, bytes]:
    """Return the answer that `success` gives, or one with what is bytes in the value in front of its JSON."""
    writer = _TYPED_APART if as_typed else _APART
    text = _encode(value, "return value", _PICKLE_HINT, max_bytes, writer)
    if (parts := _parts_taken()) is None:
        return Outcome.SUCCESS, b"".join((HEAD, _to_string(text).encode(), TAIL))
    pieces = [each.data for each in parts.found]
    _check_size(len(text) + sum(map(len, pieces)), "return value", max_bytes)
    document = parts.document(text)
    return Outcome.BINARY, b"".join((*pieces, end_of_parts(document), _named(PARTS)))


def _named(media_type: str) -> bytes:
    """Return what stands behind bytes that are answered as they are."""
    name = media_type.encode("ascii", "replace")[:255]
    return name + bytes((len(name),))


def event(item: Any, max_bytes: int, as_typed: bool = False) -> bytes:
    """Return the event with an item, as `success` has it; raises what that does."""
    text = _encode(item, "item", _STREAM_HINT, max_bytes, _TYPED if as_typed else _MARKED)
    if WRITTEN.parts is None:  # as with most items, which cost little
        return b"".join((_EVENT_HEAD, text.encode(), _EVENT_TAIL))
    parts = _parts_taken()
    assert parts is not None
    _check_size(parts.size(text), "item", max_bytes)
    return b"".join((_EVENT_HEAD, *parts.in_text(text), _EVENT_TAIL))


def binary(value: Any, max_bytes: int, accepts: int) -> bytes | None:
    """Return the answer with bytes as they are, for what is sent so; None for another value."""
    if accepts & _MULTIPART and (form := _form(value, max_bytes)) is not None:
        pieces, kind = form
    elif (found := _binary(value, accepts)) is not None:
        pieces, kind = [found.data], found.media_type
    else:
        return None
    _check_size(sum(map(len, pieces)), "return value", max_bytes)
    return b"".join((*pieces, _named(kind)))


def _binary(value: Any, accepts: int) -> Binary | None:
    if accepts & _ARROW and is_frame(value):
        found = _of_table(value)
        if found is None and accepts & _BINARY:
            text = (
                "a table is answered as Arrow where pyarrow is among the bundle's requirements: accept JSON"
            )
            raise Refusal(text, _NOT_ACCEPTABLE)
        return found
    return (binary_of(value) if accepts & _BINARY else None) or (npy_of(value) if accepts & _NPY else None)


def _of_table(value: Any) -> Binary | None:
    try:
        return table_of(value)
    except ValueError as error:
        raise Refusal(str(error)) from None


def _form(value: Any, max_bytes: int) -> tuple[list[bytes], str] | None:
    if not isinstance(value, Mapping | tuple):
        return None
    from openlaunch_worker.multipart import form_of  # few requests ask for it

    return form_of(
        value,
        lambda each: binary_of(each) or npy_of(each) or (_of_table(each) if is_frame(each) else None),
        lambda each: _encode(each, "part of the return value", _PICKLE_HINT, max_bytes, _PLAIN),
    )


def pickled(value: Any, max_bytes: int) -> bytes:
    """Return the value as cloudpickle bytes. Raise `Refusal` if they are more than `max_bytes`."""
    import cloudpickle  # most workers never need it here

    data: bytes = cloudpickle.dumps(value)
    _check_size(len(data), "pickled return value", max_bytes)
    return data


def failure(text: str, status_code: int, error: Mapping[str, str] | None = None) -> bytes:
    """Return the answer that says why there is not a return value; `error` is the exception's type and message."""
    document = {"status": "FAILURE", "result": None, "traceback": text, "status_code": status_code}
    return json.dumps(document if error is None else {**document, "error": error}).encode()


def failure_event(text: str, status_code: int, error: Mapping[str, str] | None = None) -> bytes:
    """Return the last event of a stream that failed."""
    return b"data: " + failure(text, status_code, error) + b"\n\n"


def partial_value(value: Any) -> bytes:
    """Return a value that comes before the answer as JSON. Raise `Refusal` if it is not."""
    return _encode(value, "partial value", "give JSON types", MAX_PAYLOAD, _PLAIN).encode()


def _encode(value: Any, what: str, hint: str, max_bytes: int, writer: _Writer) -> str:
    try:
        try:
            text = writer.write(value)
        except MemoryError:
            raise
        except Exception as error:
            # Anything may be raised here: a subclass of dict or float can bring its own methods.
            if not str(error).startswith("keys must be"):
                raise Refusal(_not_json(value, what, hint, error)) from None
            value = _with_text_keys(value, what, hint, writer)
            text = _PLAIN.write(value)
        if len(text) > max_bytes:
            _check_size(len(text), what, max_bytes)
        if '": ' in text and looks_numbered(text) is not None:
            _check_keys(value, what)
        return text
    except BaseException:
        WRITTEN.parts = None
        raise


def _with_text_keys(value: Any, what: str, hint: str, writer: _Writer) -> Any:
    WRITTEN.parts = None  # those of the try before
    try:
        return with_text_keys(value, writer.instead)
    except Exception as error:
        raise Refusal(_not_json(value, what, hint, error)) from None


def _check_keys(value: Any, what: str) -> None:
    try:
        check_keys(value, f"the {what}")
    except ValueError as error:
        raise Refusal(str(error)) from None


def _not_json(value: Any, what: str, hint: str, error: Exception) -> str:
    of_type = f"the {what}, of type {type(value).__qualname__},"
    if isinstance(error, ValueError) and "float" in str(error):
        return (
            f"{of_type} holds NaN or Infinity, which JSON does not have: put None in their place, or {hint}"
        )
    return f"{of_type} can't be written as JSON ({error}): {hint}"


def _check_size(size: int, what: str, max_bytes: int) -> None:
    if size > max_bytes:
        raise Refusal(
            f"the {what} is {size} bytes, over the server's limit of {max_bytes} bytes (max_result_bytes): "
            "return less, or store it elsewhere and return where it is"
        )

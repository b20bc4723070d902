"""The beginning of a connection, up to the bundle's bytes; blocking, because there is nothing else to do yet."""

import json
import os
import socket
from struct import Struct
from typing import BinaryIO, Final

from openlaunch_worker.documents import DocumentError, Start
from openlaunch_worker.frames import HEADER, MAX_PAYLOAD, FrameError, Kind, encode

_TIMEVAL: Final = Struct("ll")
TIMEOUT: Final = 60.0
"""How long the server may take for its next bytes, in seconds."""


def connect(address: str) -> socket.socket:
    """Connect to a unix socket's path, or to HOST:PORT."""
    if "/" in address or ":" not in address:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            # With a timeout of Python's own the attempt fails at once where many others wait to be accepted.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _TIMEVAL.pack(int(TIMEOUT), 0))
            sock.connect(address)
            sock.settimeout(TIMEOUT)
        except OSError:
            sock.close()
            raise
        return sock
    host, _, port = address.rpartition(":")
    return socket.create_connection((host.strip("[]"), int(port)), timeout=TIMEOUT)


def shake_hands(sock: socket.socket, token: str) -> Start:
    """Say HELLO and read START. Raise `OSError` if the connection broke, `FrameError` if the protocol was broken."""
    sock.sendall(encode(Kind.HELLO, 0, json.dumps({"token": token, "pid": os.getpid()}).encode()))
    try:
        return Start.from_json(json.loads(_read_frame(sock, Kind.START)))
    except FrameError:
        raise
    except DocumentError as error:
        raise FrameError(str(error)) from None
    except (ValueError, RecursionError) as error:
        # The error's text may hold what was sent, which has the bundle's secrets.
        raise FrameError(f"START is not JSON: {type(error).__name__}") from None


def receive_bundle(sock: socket.socket, file: BinaryIO) -> None:
    """Write the bundle to a file, and rewind that. Raise `OSError` if that failed, `FrameError` for a wrong frame."""
    while piece := _read_frame(sock, Kind.BUNDLE):
        file.write(piece)
    file.seek(0)


def _read_frame(sock: socket.socket, expected: Kind) -> bytes:
    length, _, kind = HEADER.unpack(_read(sock, HEADER.size))
    if kind != expected or length > MAX_PAYLOAD:
        raise FrameError(f"a frame of kind {kind} and {length} bytes came where {expected.name} belongs")
    return _read(sock, length)


def _read(sock: socket.socket, size: int) -> bytes:
    data = bytearray(size)
    view, done = memoryview(data), 0
    while done < size:
        count = sock.recv_into(view[done:])
        if not count:
            raise ConnectionError("the server closed the connection before the worker was ready")
        done += count
    return bytes(data)

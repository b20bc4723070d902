"""Answers that are not in memory as a whole: their client gets a piece as it has taken the one before."""

from collections.abc import AsyncIterator

from openlaunch.server.gateway.exchange import Exchange
from openlaunch.server.gateway.response import JOIN_BYTES, JSON


async def respond_in_pieces(exchange: Exchange, pieces: AsyncIterator[bytes]) -> None:
    """Answer with JSON: with a small one in one write, else in pieces, of which one is held at a time."""
    held = bytearray()
    try:
        async for piece in pieces:
            held += piece
            if len(held) > JOIN_BYTES:
                exchange.write(bytes(held), JSON)
                held.clear()
                await exchange.drained()
    except BaseException:
        if exchange.started:
            exchange.drop()  # a whole answer would be read into the part that was sent
        raise
    if exchange.started:
        exchange.end(bytes(held), JSON)
    else:
        exchange.respond(bytes(held))

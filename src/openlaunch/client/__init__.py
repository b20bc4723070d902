"""The blocking and the awaitable client. Imports nothing of the server's side.

=================  ================================================================================
`effects.py`       what an operation may ask of the world: a request, a pause, a piece of work
`operations/`      every operation, written once, as a generator of effects
`drivers.py`       runs operations, for both clients
`immediate.py`     runs the coroutines of the blocking client, which never wait
`retry.py`         whether and when a request is sent again
`transport.py`     the only seam to the network, and its members for httpx2
`lean.py`          the lean transport of predictions, for both clients, over `sockets.py`, which differ
`http11.py`        HTTP/1.1 without I/O, for the lean transport
`streams.py`       items out of an answer as it comes
`packing/`         functions, with the user's own modules that they use, directories and schemas to bytes
`surface.py`       operations as methods; `client.py`, `endpoints.py`, … and `openlaunch.aio` are made of them
=================  ================================================================================
"""

"""The blocking and the awaitable client. Imports nothing of the server's side.

=================  ================================================================================
`effects.py`       what an operation may ask of the world: a request, a pause, a piece of work
`operations/`      every operation, written once, as a generator of effects
`drivers.py`       runs operations: one blocking driver, one awaitable
`retry.py`         whether and when a request is sent again
`transport.py`     the only seam to the network, and its members for httpx2
`http11.py`        HTTP/1.1 without I/O, for the lean transports of predictions: `lean.py`, `lean_aio.py`
`packing.py`       functions, directories and schemas to bytes
`surface.py`       operations as methods; `client.py`, `endpoints.py`, … and `openlaunch.aio` are made of them
=================  ================================================================================
"""

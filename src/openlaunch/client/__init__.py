"""The blocking and the awaitable client. Imports nothing of the server's side."""

"""Helpers for users' own tests: a private server in one line.

::

    @pytest.fixture(scope="session")
    def client():
        with openlaunch.testing.local() as client:
            yield client

`LocalServer` is the server alone, for the awaitable client or for a program under test.
"""

from openlaunch.client.local import LocalClient, LocalServer, local

__all__ = ["LocalClient", "LocalServer", "local"]

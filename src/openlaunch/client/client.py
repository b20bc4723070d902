"""The blocking client."""

import weakref
from typing import Any, Self, TypeVar, cast

from openlaunch.client.chats import ChatStream
from openlaunch.client.deploying import Deploy
from openlaunch.client.drivers import Driver
from openlaunch.client.effects import Flow
from openlaunch.client.endpoints import (
    AnyEndpoint,
    AsyncEndpoint,
    StreamingEndpoint,
    SyncEndpoint,
    endpoint_of,
    endpoints_of,
)
from openlaunch.client.forks import hold
from openlaunch.client.immediate import finished
from openlaunch.client.logs import LogStream
from openlaunch.client.operation_table import Operations
from openlaunch.client.operations import canaries, endpoint_reports, endpoints, llm, tasks
from openlaunch.client.operations.deploy import deploy
from openlaunch.client.responses import EndpointResponseFuture
from openlaunch.client.retry import RetryPolicy
from openlaunch.client.surface import BlockingClient, blocking
from openlaunch.client.transport import Target
from openlaunch.client.watcher import Watcher

T = TypeVar("T")


def _future_of(client: BlockingClient, task_id: str) -> EndpointResponseFuture:
    return EndpointResponseFuture(client, "", task_id)


class LaunchClient(Operations, make=blocking):
    """A connection to an Openlaunch server; any number of threads may use it.

    ::

        client = LaunchClient()
        endpoint = client.deploy(lambda x: 2 * x, name="double")
        print(endpoint.predict(EndpointRequest(args={"x": 21})).value)

    Without arguments it takes the server from `OPENLAUNCH_URL` and `OPENLAUNCH_API_KEY`, else from
    `LAUNCH_ENDPOINT` and `LAUNCH_API_KEY`, else from the profile that `OPENLAUNCH_PROFILE` names or that
    `openlaunch login` made, else from the credentials file of a server on this machine, in
    `$OPENLAUNCH_DATA_DIR` or `~/.openlaunch`.

    Args:
        api_key: the key.
        endpoint: the server's URL, such as `http://127.0.0.1:8000`; or those of several servers that share their
            records, with commas between. The client moves on to the next when one is away.
        self_hosted: for programs written for Launch; every server is self-hosted here, so nothing depends on it.
        use_path_with_custom_endpoint: whether `endpoint` may have a path, which is kept.
        timeout: seconds that may pass without any byte sent or received before a request other than a prediction is
            given up. The client waits to its end for an answer that keeps coming, however slowly.
        max_retries: how often a request that failed is sent again, where that is safe.
        ca_file: PEM file of certificates to trust beside the system's, for a server that speaks HTTPS; else the one
            that `OPENLAUNCH_CA_FILE` or the profile names.
        profile: the profile to use, in place of `endpoint`.
        owner: for admins: whose things all requests are about, as if they were the caller's; `"*"` lists everybody's.

    Raises:
        ConfigurationError: no server or no key was found, or a number is not allowed.
    """

    def _connect(self, target: Target, retry: RetryPolicy) -> None:
        self._driver = Driver.blocking(target, retry)
        self.watcher = Watcher(self._driver.run)
        hold(self.watcher)
        # Also closes when the client is forgotten and when the program ends.
        self._finalizer = weakref.finalize(self, _close, self.watcher, self._driver)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections; harmless when called twice."""
        self._finalizer()

    def run(self, flow: Flow[T]) -> T:
        """Run an operation; the other methods do this for you."""
        return finished(self._driver.run(flow))

    def future(
        self, task_id: str, endpoint_name: str = "", return_pickled: bool = False
    ) -> EndpointResponseFuture:
        """Return the future of a task that was submitted before, by this program or another one.

        Args:
            task_id: the id that the server gave to the task.
            endpoint_name: the endpoint's name, for messages.
            return_pickled: whether to download and unpickle a pickled result, which runs code that the endpoint's
                owner chose: set it only if you trust them.
        """
        return EndpointResponseFuture(self, endpoint_name, task_id, return_pickled)

    deploy: Deploy[SyncEndpoint, StreamingEndpoint, AsyncEndpoint, AnyEndpoint] = cast(
        "Any", blocking(deploy, endpoint_of)
    )
    deploy_llm = blocking(llm.deploy_llm, endpoint_of)
    create_model_endpoint = blocking(endpoints.create_model_endpoint, endpoint_of)
    edit_model_endpoint = blocking(endpoints.edit_model_endpoint, endpoint_of)
    get_model_endpoint = blocking(endpoints.get_model_endpoint, endpoint_of)
    list_model_endpoints = blocking(endpoints.list_model_endpoints, endpoints_of)
    hand_over_model_endpoint = blocking(endpoints.hand_over_model_endpoint, endpoint_of)
    start_canary = blocking(canaries.start_canary, endpoint_of)
    set_canary_percent = blocking(canaries.set_canary_percent, endpoint_of)
    promote_canary = blocking(canaries.promote_canary, endpoint_of)
    roll_back_canary = blocking(canaries.roll_back_canary, endpoint_of)
    wait_for_canary = blocking(canaries.wait_for_canary, endpoint_of)
    follow_endpoint_logs = blocking(endpoint_reports.follow_endpoint_logs, LogStream.of)
    stream_chat_llm = blocking(llm.stream_chat_llm, ChatStream.of)
    rerun_task = blocking(tasks.rerun_task, _future_of)


def _close(watcher: Watcher, driver: Driver) -> None:
    watcher.close()
    finished(driver.close())

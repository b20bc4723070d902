"""The blocking client."""

import weakref
from pathlib import Path
from typing import Self, TypeVar

from openlaunch.client.config import find_address, find_ca_file
from openlaunch.client.drivers import Driver
from openlaunch.client.effects import Flow
from openlaunch.client.endpoints import endpoint_of, endpoints_of
from openlaunch.client.immediate import finished
from openlaunch.client.logs import LogStream
from openlaunch.client.operations import (
    audit,
    batch_jobs,
    bundles,
    bundles_images,
    bundles_v1,
    endpoints,
    keys,
    predictions,
    tasks,
)
from openlaunch.client.operations import image_jobs as image_jobs
from openlaunch.client.operations.deploy import deploy
from openlaunch.client.registering import RegistersUploads
from openlaunch.client.responses import EndpointResponseFuture
from openlaunch.client.retry import RetryPolicy
from openlaunch.client.surface import BlockingClient, blocking
from openlaunch.client.transport import Target
from openlaunch.client.watcher import Watcher
from openlaunch.errors import ConfigurationError

T = TypeVar("T")
DEFAULT_TIMEOUT_SECONDS = 60.0
DEFAULT_MAX_RETRIES = 3


def _future_of(client: BlockingClient, task_id: str) -> EndpointResponseFuture:
    return EndpointResponseFuture(client, "", task_id)


class LaunchClient(RegistersUploads):
    """A connection to an Openlaunch server; any number of threads may use it.

    ::

        client = LaunchClient()
        endpoint = client.deploy(lambda x: 2 * x, name="double")
        print(endpoint.predict(EndpointRequest(args={"x": 21})).value)

    Without arguments it takes the server from `OPENLAUNCH_URL` and `OPENLAUNCH_API_KEY`, else from
    `LAUNCH_ENDPOINT` and `LAUNCH_API_KEY`, else from the credentials file of a server on this machine, in
    `$OPENLAUNCH_DATA_DIR` or `~/.openlaunch`.

    Args:
        api_key: the key.
        endpoint: the server's URL, such as `http://127.0.0.1:8000`.
        self_hosted: for programs written for Launch; every server is self-hosted here, so nothing depends on it.
        use_path_with_custom_endpoint: whether `endpoint` may have a path, which is kept.
        timeout: seconds that may pass without any byte sent or received before a request other than a prediction is
            given up. An answer that keeps coming, however slowly, is waited for to its end.
        max_retries: how often a request that failed is sent again, where that is safe.
        ca_file: PEM file of certificates to trust beside the system's, for a server that speaks HTTPS; else the one
            that `OPENLAUNCH_CA_FILE` names.

    Raises:
        ConfigurationError: no server or no key was found, or a number is not allowed.
    """

    def __init__(
        self,
        api_key: str | None = None,
        endpoint: str | None = None,
        self_hosted: bool = False,
        use_path_with_custom_endpoint: bool = False,
        *,
        timeout: float = DEFAULT_TIMEOUT_SECONDS,
        max_retries: int = DEFAULT_MAX_RETRIES,
        ca_file: str | Path | None = None,
    ) -> None:
        address = find_address(api_key, endpoint, keep_path=use_path_with_custom_endpoint)
        check_limits(timeout, max_retries)
        self.url = address.url
        self.self_hosted = self_hosted
        target = Target.of(address, timeout, find_ca_file(ca_file))
        self._driver = Driver.blocking(target, RetryPolicy(max_retries))
        self.watcher = Watcher(self._driver.run)
        # Also closes when the client is forgotten and when the program ends.
        self._finalizer = weakref.finalize(self, _close, self.watcher, self._driver)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(url={self.url!r})"

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

    def future(self, task_id: str, endpoint_name: str = "") -> EndpointResponseFuture:
        """Give the future of a task that was submitted before, here or elsewhere."""
        return EndpointResponseFuture(self, endpoint_name, task_id)

    deploy = blocking(deploy, endpoint_of)

    create_model_bundle_from_callable_v2 = blocking(bundles.create_model_bundle_from_callable_v2)
    create_model_bundle_from_dirs_v2 = blocking(bundles.create_model_bundle_from_dirs_v2)
    create_model_bundle_from_command = blocking(bundles.create_model_bundle_from_command)
    create_model_bundle_from_runnable_image_v2 = blocking(
        bundles_images.create_model_bundle_from_runnable_image_v2
    )
    create_model_bundle_from_streaming_enhanced_runnable_image_v2 = blocking(
        bundles_images.create_model_bundle_from_streaming_enhanced_runnable_image_v2
    )
    create_model_bundle_from_triton_enhanced_runnable_image_v2 = blocking(
        bundles_images.create_model_bundle_from_triton_enhanced_runnable_image_v2
    )
    create_model_bundle = blocking(bundles_v1.create_model_bundle)
    create_model_bundle_from_dirs = blocking(bundles_v1.create_model_bundle_from_dirs)
    clone_model_bundle_with_changes = blocking(bundles.clone_model_bundle_with_changes)
    clone_model_bundle_with_changes_v2 = blocking(bundles.clone_model_bundle_with_changes_v2)
    get_model_bundle = blocking(bundles.get_model_bundle)
    get_model_bundle_v2 = blocking(bundles.get_model_bundle_v2)
    get_latest_model_bundle_v2 = blocking(bundles.get_latest_model_bundle_v2)
    list_model_bundles = blocking(bundles.list_model_bundles)
    list_model_bundles_v2 = blocking(bundles.list_model_bundles_v2)

    create_model_endpoint = blocking(endpoints.create_model_endpoint, endpoint_of)
    edit_model_endpoint = blocking(endpoints.edit_model_endpoint, endpoint_of)
    get_model_endpoint = blocking(endpoints.get_model_endpoint, endpoint_of)
    list_model_endpoints = blocking(endpoints.list_model_endpoints, endpoints_of)
    delete_model_endpoint = blocking(endpoints.delete_model_endpoint)
    restart_model_endpoint = blocking(endpoints.restart_model_endpoint)
    start_canary = blocking(endpoints.start_canary, endpoint_of)
    set_canary_percent = blocking(endpoints.set_canary_percent, endpoint_of)
    promote_canary = blocking(endpoints.promote_canary, endpoint_of)
    roll_back_canary = blocking(endpoints.roll_back_canary, endpoint_of)
    wait_for_canary = blocking(endpoints.wait_for_canary, endpoint_of)
    read_endpoint_creation_logs = blocking(endpoints.read_endpoint_creation_logs)
    read_endpoint_logs = blocking(endpoints.read_endpoint_logs)
    follow_endpoint_logs = blocking(endpoints.follow_endpoint_logs, LogStream.of)
    list_endpoint_events = blocking(endpoints.list_endpoint_events)
    explain_endpoint = blocking(endpoints.explain_endpoint)

    list_tasks = blocking(tasks.list_tasks)
    get_task = blocking(tasks.get_task)
    get_task_details = blocking(tasks.get_task_details)
    get_task_payload = blocking(tasks.get_task_payload)
    rerun_task = blocking(tasks.rerun_task, _future_of)
    explain_task = blocking(tasks.explain_task)
    cancel_task = blocking(predictions.cancel_task)
    list_deliveries = blocking(tasks.list_deliveries)
    resend_callback = blocking(tasks.resend_callback)
    get_callback_secret = blocking(tasks.get_callback_secret)

    batch_async_request = blocking(batch_jobs.batch_async_request)
    get_batch_async_response = blocking(batch_jobs.get_batch_async_response)
    wait_for_batch_job = blocking(batch_jobs.wait_for_batch_job)
    read_batch_results = blocking(batch_jobs.read_batch_results)
    list_batch_jobs = blocking(batch_jobs.list_batch_jobs)
    cancel_batch_job = blocking(batch_jobs.cancel_batch_job)
    create_docker_image_batch_job_bundle = blocking(image_jobs.create_docker_image_batch_job_bundle)
    get_docker_image_batch_job_bundle = blocking(image_jobs.get_docker_image_batch_job_bundle)
    get_latest_docker_image_batch_job_bundle = blocking(image_jobs.get_latest_docker_image_batch_job_bundle)
    list_docker_image_batch_job_bundles = blocking(image_jobs.list_docker_image_batch_job_bundles)
    create_docker_image_batch_job = blocking(image_jobs.create_docker_image_batch_job)
    get_docker_image_batch_job = blocking(image_jobs.get_docker_image_batch_job)
    list_docker_image_batch_jobs = blocking(image_jobs.list_docker_image_batch_jobs)
    read_docker_image_batch_job_logs = blocking(image_jobs.read_docker_image_batch_job_logs)
    update_docker_image_batch_job = blocking(image_jobs.update_docker_image_batch_job)
    wait_for_docker_image_batch_job = blocking(image_jobs.wait_for_docker_image_batch_job)
    create_trigger = blocking(image_jobs.create_trigger)
    list_triggers = blocking(image_jobs.list_triggers)
    get_trigger = blocking(image_jobs.get_trigger)
    update_trigger = blocking(image_jobs.update_trigger)
    delete_trigger = blocking(image_jobs.delete_trigger)

    create_api_key = blocking(keys.create_api_key)
    list_api_keys = blocking(keys.list_api_keys)
    update_api_key = blocking(keys.update_api_key)
    revoke_api_key = blocking(keys.revoke_api_key)
    list_audit_log = blocking(audit.list_audit_log)


def check_limits(timeout: float, max_retries: int) -> None:
    """Refuse values that are not allowed.

    Raises:
        ConfigurationError: one is not.
    """
    if not timeout > 0:
        raise ConfigurationError(f"timeout is {timeout!r}: a number of seconds above 0 is needed")
    if not 0 <= max_retries <= 100:
        raise ConfigurationError(f"max_retries is {max_retries!r}: a number from 0 to 100 is needed")


def _close(watcher: Watcher, driver: Driver) -> None:
    watcher.close()
    finished(driver.close())

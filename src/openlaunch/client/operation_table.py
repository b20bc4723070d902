"""The one table of operations, of which both clients have their methods."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Generic, NoReturn, ParamSpec, TypeVar, overload

from openlaunch.client.config import find_address, find_ca_file
from openlaunch.client.effects import Flow
from openlaunch.client.operations import (
    audit,
    batch_jobs,
    bundles,
    bundles_images,
    bundles_v1,
    endpoint_reports,
    endpoints,
    environments,
    image_jobs,
    keys,
    llm,
    nodes,
    predictions,
    quotas,
    secrets,
    storage,
    subscriptions,
    tasks,
)
from openlaunch.client.registering import RegistersUploads
from openlaunch.client.retry import RetryPolicy
from openlaunch.client.surface import AwaitableClient, BlockingClient
from openlaunch.client.transport import Target
from openlaunch.errors import ConfigurationError

P = ParamSpec("P")
T = TypeVar("T")


class Operation(Generic[P, T]):
    """A row of the table. What the operation gives is a result of one client, and awaited on the other."""

    def __init__(self, function: Callable[P, Flow[T]]) -> None:
        self.function = function

    # For type checkers: a client has functions in place of these objects.
    @overload
    def __get__(self, client: BlockingClient, owner: Any) -> Callable[P, T]: ...
    @overload
    def __get__(self, client: AwaitableClient, owner: Any) -> Callable[P, Coroutine[Any, Any, T]]: ...
    @overload
    def __get__(self, client: None, owner: Any) -> Callable[..., Any]: ...
    def __get__(self, client: object, owner: Any) -> Any:
        return self


class Operations(ABC, RegistersUploads):
    """The operations that give the same on both clients; `make` makes a method of one."""

    def __init_subclass__(cls, make: Callable[[Any], Any] | None = None) -> None:
        for name, row in vars(Operations).items():
            if make is not None and isinstance(row, Operation):
                setattr(cls, name, make(row.function))

    def __init__(
        self,
        api_key: str | None = None,
        endpoint: str | None = None,
        self_hosted: bool = False,
        use_path_with_custom_endpoint: bool = False,
        *,
        timeout: float = 60.0,
        max_retries: int = 3,
        ca_file: str | Path | None = None,
        owner: str | None = None,
        profile: str | None = None,
    ) -> None:
        address = find_address(api_key, endpoint, profile=profile, keep_path=use_path_with_custom_endpoint)
        _check_limits(timeout, max_retries)
        _check_owner(owner)
        self.url = address.url
        self.self_hosted = self_hosted
        certificates = find_ca_file(ca_file, address.ca_file)
        self._connect(Target.of(address, timeout, certificates, owner), RetryPolicy(max_retries))

    # So that an error about an unknown keyword names what the caller has written.
    __init__.__qualname__ = "LaunchClient"

    @abstractmethod
    def _connect(self, target: Target, retry: RetryPolicy) -> None: ...

    def __repr__(self) -> str:
        return f"{type(self).__name__}(url={self.url!r})"

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a client can't be pickled or copied, nor can what needs one, such as an endpoint or a future: it holds "
            "connections and a key. Make a LaunchClient where it is used, and send names and values"
        )

    create_model_bundle_from_callable_v2 = Operation(bundles.create_model_bundle_from_callable_v2)
    create_model_bundle_from_dirs_v2 = Operation(bundles.create_model_bundle_from_dirs_v2)
    create_model_bundle_from_command = Operation(bundles.create_model_bundle_from_command)
    create_model_bundle_from_runnable_image_v2 = Operation(
        bundles_images.create_model_bundle_from_runnable_image_v2
    )
    create_model_bundle_from_streaming_enhanced_runnable_image_v2 = Operation(
        bundles_images.create_model_bundle_from_streaming_enhanced_runnable_image_v2
    )
    create_model_bundle_from_triton_enhanced_runnable_image_v2 = Operation(
        bundles_images.create_model_bundle_from_triton_enhanced_runnable_image_v2
    )
    create_model_bundle = Operation(bundles_v1.create_model_bundle)
    create_model_bundle_from_dirs = Operation(bundles_v1.create_model_bundle_from_dirs)
    clone_model_bundle_with_changes = Operation(bundles.clone_model_bundle_with_changes)
    clone_model_bundle_with_changes_v2 = Operation(bundles.clone_model_bundle_with_changes_v2)
    get_model_bundle = Operation(bundles.get_model_bundle)
    get_model_bundle_v2 = Operation(bundles.get_model_bundle_v2)
    get_latest_model_bundle_v2 = Operation(bundles.get_latest_model_bundle_v2)
    delete_model_bundle = Operation(bundles.delete_model_bundle)
    list_model_bundles = Operation(bundles.list_model_bundles)
    list_model_bundles_v2 = Operation(bundles.list_model_bundles_v2)

    list_llms = Operation(llm.list_llms)
    chat_llm = Operation(llm.chat_llm)

    delete_model_endpoint = Operation(endpoints.delete_model_endpoint)
    restart_model_endpoint = Operation(endpoints.restart_model_endpoint)
    read_endpoint_creation_logs = Operation(endpoint_reports.read_endpoint_creation_logs)
    read_endpoint_logs = Operation(endpoint_reports.read_endpoint_logs)
    read_recordings = Operation(endpoint_reports.read_recordings)
    list_endpoint_events = Operation(endpoint_reports.list_endpoint_events)
    get_endpoint_metrics = Operation(endpoint_reports.get_endpoint_metrics)
    list_endpoint_workers = Operation(endpoint_reports.list_endpoint_workers)
    list_metrics = Operation(endpoint_reports.list_metrics)
    explain_endpoint = Operation(endpoint_reports.explain_endpoint)

    list_tasks = Operation(tasks.list_tasks)
    get_task = Operation(tasks.get_task)
    get_task_details = Operation(tasks.get_task_details)
    get_task_payload = Operation(tasks.get_task_payload)
    explain_task = Operation(tasks.explain_task)
    cancel_task = Operation(predictions.cancel_task)
    list_deliveries = Operation(tasks.list_deliveries)
    resend_callback = Operation(tasks.resend_callback)
    get_callback_secret = Operation(tasks.get_callback_secret)

    batch_async_request = Operation(batch_jobs.batch_async_request)
    get_batch_async_response = Operation(batch_jobs.get_batch_async_response)
    wait_for_batch_job = Operation(batch_jobs.wait_for_batch_job)
    read_batch_results = Operation(batch_jobs.read_batch_results)
    list_batch_jobs = Operation(batch_jobs.list_batch_jobs)
    cancel_batch_job = Operation(batch_jobs.cancel_batch_job)
    create_docker_image_batch_job_bundle = Operation(image_jobs.create_docker_image_batch_job_bundle)
    get_docker_image_batch_job_bundle = Operation(image_jobs.get_docker_image_batch_job_bundle)
    get_latest_docker_image_batch_job_bundle = Operation(image_jobs.get_latest_docker_image_batch_job_bundle)
    list_docker_image_batch_job_bundles = Operation(image_jobs.list_docker_image_batch_job_bundles)
    create_docker_image_batch_job = Operation(image_jobs.create_docker_image_batch_job)
    get_docker_image_batch_job = Operation(image_jobs.get_docker_image_batch_job)
    list_docker_image_batch_jobs = Operation(image_jobs.list_docker_image_batch_jobs)
    read_docker_image_batch_job_logs = Operation(image_jobs.read_docker_image_batch_job_logs)
    update_docker_image_batch_job = Operation(image_jobs.update_docker_image_batch_job)
    wait_for_docker_image_batch_job = Operation(image_jobs.wait_for_docker_image_batch_job)
    create_trigger = Operation(image_jobs.create_trigger)
    list_triggers = Operation(image_jobs.list_triggers)
    get_trigger = Operation(image_jobs.get_trigger)
    update_trigger = Operation(image_jobs.update_trigger)
    delete_trigger = Operation(image_jobs.delete_trigger)

    create_api_key = Operation(keys.create_api_key)
    list_api_keys = Operation(keys.list_api_keys)
    whoami = Operation(keys.whoami)
    make_page_link = Operation(keys.make_page_link)
    update_api_key = Operation(keys.update_api_key)
    revoke_api_key = Operation(keys.revoke_api_key)
    list_quotas = Operation(quotas.list_quotas)
    set_quotas = Operation(quotas.set_quotas)
    set_secret = Operation(secrets.set_secret)
    list_secrets = Operation(secrets.list_secrets)
    delete_secret = Operation(secrets.delete_secret)
    rotate_secrets = Operation(secrets.rotate_secrets)
    list_audit_log = Operation(audit.list_audit_log)
    get_storage = Operation(storage.get_storage)
    list_environments = Operation(environments.list_environments)
    get_environment = Operation(environments.get_environment)
    prune_environments = Operation(environments.prune_environments)
    list_nodes = Operation(nodes.list_nodes)
    list_servers = Operation(nodes.list_servers)
    create_subscription = Operation(subscriptions.create_subscription)
    list_subscriptions = Operation(subscriptions.list_subscriptions)
    delete_subscription = Operation(subscriptions.delete_subscription)
    drain_node = Operation(nodes.drain_node)
    remove_node = Operation(nodes.remove_node)


def _check_owner(owner: object) -> None:
    if not isinstance(owner, str | None):
        raise ConfigurationError(f"owner is {owner!r:.100}: the name of an owner is needed, or '*' for all")


def _check_limits(timeout: float, max_retries: int) -> None:
    if not isinstance(timeout, int | float) or not timeout > 0:
        raise ConfigurationError(f"timeout is {timeout!r}: a number of seconds above 0 is needed")
    if not isinstance(max_retries, int) or not 0 <= max_retries <= 100:
        raise ConfigurationError(f"max_retries is {max_retries!r}: a number from 0 to 100 is needed")

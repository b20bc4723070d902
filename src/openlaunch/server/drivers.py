"""The drivers that the settings ask for: of records, of artifacts, and of workers. Only this file names them."""

import importlib.util
import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from pydantic import SecretStr

from openlaunch.artifacts.base import Artifacts
from openlaunch.artifacts.folder import FolderArtifacts
from openlaunch.engines.base import Engine
from openlaunch.engines.containers import ContainerEngine
from openlaunch.engines.documents import GpuUse
from openlaunch.engines.environments import Environments
from openlaunch.engines.gpus import gpu_names, gpu_use, visible_gpus
from openlaunch.engines.images import Images
from openlaunch.engines.local import LocalEngine
from openlaunch.engines.model_caches import ModelCaches
from openlaunch.engines.package_sources import PackageSources
from openlaunch.engines.processes import Processes
from openlaunch.engines.sandbox import Sandboxes
from openlaunch.engines.worker_logs import WorkerLogs
from openlaunch.errors import ConfigurationError
from openlaunch.nodes import leases
from openlaunch.server.operations.datadir import DataDir
from openlaunch.server.settings import Settings
from openlaunch.store.base import Store
from openlaunch.store.cluster import ClusterRecords
from openlaunch.store.sqlite import SqliteStore

if TYPE_CHECKING:
    from openlaunch.nodes.engine import NodesEngine
    from openlaunch.nodes.identity import ClusterIdentity
    from openlaunch.store.postgres import PostgresStore


class Machines(NamedTuple):
    """Where workers run."""

    engine: Engine
    nodes: "NodesEngine | None"
    """The engine again, where workers run on nodes, and None where they run on this machine."""
    gpus: Callable[[], Sequence[GpuUse]]
    """Asks the driver how busy the GPUs of this machine are."""


async def open_store(settings: Settings, data: DataDir) -> Store:
    """Open the database that has, or from now on has, the records of the data directory."""
    if settings.store is None:
        data.places.use_records(None)
        return await open_sqlite(data)
    store = await open_postgres(settings.store.get_secret_value(), shared=settings.cluster_token is not None)
    data.places.use_records(store.name)
    return store


async def open_sqlite(data: DataDir) -> SqliteStore:
    """Open the data directory's own database."""
    return await SqliteStore.open(data.database)


async def open_postgres(url: str, *, shared: bool = False) -> "PostgresStore":
    """Open a database, `shared` with other servers; raise ConfigurationError where it can't be used."""
    try:
        from openlaunch.store.postgres import PostgresStore
    except ImportError as error:
        raise ConfigurationError(
            f"PostgreSQL needs what is not installed ({error}): pip install 'openlaunch[server,cluster]'"
        ) from None
    return await PostgresStore.open(url, shared=shared)


async def open_cluster(settings: Settings, data: DataDir, url: str) -> ClusterRecords | None:
    """Join the cluster of the token; None where this server is alone on its records."""
    if settings.store is None or settings.cluster_token is None:
        return None
    if not settings.artifacts and not data.artifacts.is_symlink():
        raise ConfigurationError(
            "the servers of a cluster need artifacts that all of them reach: name a bucket with --artifacts, or make "
            f"{data.artifacts} a link to a folder that they share"
        )
    from openlaunch.store.postgres_cluster import PostgresCluster

    name = cluster_identity(settings.cluster_token).name
    records = PostgresCluster(
        settings.store.get_secret_value(), name, url, leases.SECONDS, leases.ANSWER_SECONDS
    )
    try:
        data.keys.take_url_secret(await records.url_secret(data.keys.url_secret()))
    except BaseException:
        await records.close()
        raise
    return records


async def open_own_artifacts(settings: Settings, data: DataDir) -> Artifacts:
    """Open the artifacts of the data directory, which notes the bucket where there is one."""
    url = settings.artifacts.rstrip("/")
    data.places.check_bucket(url)
    artifacts = await open_artifacts(url, data, signs_urls=settings.artifact_urls == "bucket")
    data.places.bucket = url
    return artifacts


async def open_artifacts(url: str, data: DataDir, *, signs_urls: bool = True) -> Artifacts:
    """Give the artifacts in a bucket that works and is this data directory's; without a URL, those in the folder."""
    if not url:
        return FolderArtifacts(data.artifacts)
    from openlaunch.artifacts.bucket import BucketArtifacts

    bucket = BucketArtifacts(url, signs_urls=signs_urls)
    await bucket.start(data.keys.mark())
    return bucket


def machines(settings: Settings, data: DataDir) -> Machines:
    """Make the engine that the settings name; raise ConfigurationError where what it needs is not there."""
    if settings.engine == "local":
        return Machines(local_engine(settings, data), None, gpu_use)
    nodes = _nodes_engine(settings, data)
    return Machines(nodes, nodes, tuple)


def _nodes_engine(settings: Settings, data: DataDir) -> "NodesEngine":
    from openlaunch.nodes.engine import NodesEngine
    from openlaunch.nodes.node import read_nodes

    identity = cluster_identity(settings.cluster_token)
    if settings.engine == "agents":
        return NodesEngine(read_nodes(settings.agents), identity, data.keys.mark())
    from openlaunch.nodes.ray_placement import RayPlacement

    if importlib.util.find_spec("ray") is None:
        raise ConfigurationError(
            "the engine `ray` needs what is not installed: pip install 'openlaunch[server,cluster,ray]'"
        )
    assert settings.cluster_token is not None
    token, records = settings.cluster_token.get_secret_value(), data.keys.mark()
    return NodesEngine([], identity, records, RayPlacement(records, token, data.known_nodes))


def local_engine(settings: Settings, data: DataDir) -> LocalEngine:
    """Make the engine that runs workers on this machine."""
    sandboxes = _sandboxes(settings, data)
    fast_loop = settings.worker_event_loop == "uvloop"
    containers = ContainerEngine(
        settings.container_engine,
        settings.container_run_options,
        server=data.digest,
        folder=data.workers,
        pull_seconds=settings.image_pull_seconds,
    )
    gpus = visible_gpus()
    return LocalEngine(
        Processes(data.workers, sandboxes=sandboxes, fast_loop=fast_loop, disk=settings.worker_disk_bytes),
        Environments(data.environments, data.uv_caches, sandboxes=sandboxes, sources=_sources(settings)),
        containers,
        Images(containers, settings.triton_image, settings.model_repositories),
        gpus,
        WorkerLogs(data.logs),
        data.jobs,
        ModelCaches(data.caches, settings.cache_bytes, sandboxes),
        gpu_names(gpus),
    )


def cluster_identity(token: SecretStr | None) -> "ClusterIdentity":
    """Return what is derived from the cluster's token; raise ConfigurationError where there is none."""
    from openlaunch.nodes.identity import ClusterIdentity

    if token is None:
        raise ConfigurationError(
            "servers and agents of a cluster share a secret, and none is given: make one with "
            "`openssl rand -hex 32`, and set OPENLAUNCH_CLUSTER_TOKEN to it for every server and agent"
        )
    return ClusterIdentity(token.get_secret_value())


def _sources(settings: Settings) -> PackageSources:
    return PackageSources.of(
        os.environ,
        settings.torch_backend,
        settings.extra_index_urls.get_secret_value(),
        settings.find_links.get_secret_value(),
    )


def _sandboxes(settings: Settings, data: DataDir) -> Sandboxes | None:
    if settings.isolation == "off":
        return None
    required = settings.isolation == "required"
    if sys.platform != "linux":
        if required:
            raise ConfigurationError(
                "OPENLAUNCH_ISOLATION is 'required': only Linux isolates workers; use 'auto'"
            )
        return None
    secret = (data.root, data.uv_caches, settings.tls_key or settings.tls_cert)
    return Sandboxes(
        hidden=tuple(str(path.absolute()) for path in secret if path is not None),
        shared=tuple(filter(None, settings.shared_folders.split(os.pathsep))),
        required=required,
        processes=settings.worker_processes,
    )

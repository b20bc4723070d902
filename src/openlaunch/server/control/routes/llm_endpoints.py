"""Endpoints of language models (`/v1/llm/model-endpoints`) and fine-tunes, for llm-engine's client.

They are endpoints like others, whose bundle is an engine's command, and whose metadata says which model it is.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from fastapi import Response
from pydantic import ValidationError
from sqlalchemy import Connection

from openlaunch.client.engines import OFFLINE, command_of, engine_of, folder_of
from openlaunch.errors import APIError, NotFound, NotServed
from openlaunch.server.access.auth import Principal
from openlaunch.server.control.answers import InPages, listed
from openlaunch.server.control.context import Context
from openlaunch.server.control.endpoint_view import BundleNames, bundle_names, described_with
from openlaunch.server.control.routes.bundles import store_bundle
from openlaunch.server.control.routes.callers import Caller, User, named
from openlaunch.server.control.routing import ControlRouter
from openlaunch.server.endpoints.lookups import find_bundle, found, may_see
from openlaunch.server.endpoints.specs import made_of, wrong_field
from openlaunch.server.gateway.resolver import find_by_name
from openlaunch.store import bundles as bundle_store
from openlaunch.store import endpoints as endpoint_store
from openlaunch.store.records import EndpointRecord
from openlaunch.tasks.model_lines import NOT_STORED
from openlaunch.wire import routes
from openlaunch.wire.bundles import CommandFlavor, CreateModelBundleRequest
from openlaunch.wire.endpoint_settings import EndpointSettings
from openlaunch.wire.endpoints import (
    CreateModelEndpointRequest,
    DeleteModelEndpointResponse,
    EndpointCreationResponse,
    EndpointOrderBy,
    EndpointType,
    UpdateModelEndpointRequest,
)
from openlaunch.wire.keys import ALL_OWNERS
from openlaunch.wire.keywords import DEFAULTS
from openlaunch.wire.llm_endpoints import (
    CreateLLMEndpointRequest,
    DownloadRequest,
    DownloadResponse,
    Framework,
    ListLLMEndpointsResponse,
    LLMEndpointResponse,
    ModelCard,
    UpdateLLMEndpointRequest,
)

CARD = "_llm"
"""The name of the card in an endpoint's metadata."""

LOAD_SECONDS = 1800
_ONE = routes.LLM_ENDPOINTS + "/{name:path}"
_CARD_FIELDS = set(ModelCard.model_fields) - {"engine_args"}
_SHARDS = {Framework.VLLM: "tensor_parallel_size", Framework.SGLANG: "tp_size"}
_MEMORY = {Framework.VLLM: "gpu_memory_utilization", Framework.SGLANG: "mem_fraction_static"}
_OURS = ("revision", "served_model_name", "max_gpu_memory_utilization", "huggingface_repo")
"""Arguments that are not passed on as they are."""

_FINE_TUNES = (
    "fine-tuning is not served: run a container that does it as an image job (POST "
    f"{routes.DOCKER_IMAGE_BATCH_JOBS}), and serve its weights with checkpoint_path"
)


def router(context: Context) -> ControlRouter:
    """Create, change, list, get and delete endpoints of language models; refuse what is not served."""
    api = ControlRouter(tags=["llm"])
    _add_changes(api, context)
    _add_reads(api, context)
    _add_refusals(api)
    return api


def _add_changes(api: ControlRouter, context: Context) -> None:
    @api.post(routes.LLM_ENDPOINTS)
    async def create_llm_model_endpoint(
        body: CreateLLMEndpointRequest, user: User
    ) -> EndpointCreationResponse:
        """Create an endpoint that serves a model by vLLM or SGLang, and speaks OpenAI."""
        card = _card_of({}, body)
        flavor, fetched = _served(card, body.name)
        settings: dict[str, Any] = {
            **DEFAULTS,
            "gpus": card.num_shards,
            "public_inference": True,
            "labels": {},
        }
        low = 1 if body.max_workers is None else min(1, body.max_workers)
        settings |= {"min_workers": low, "max_workers": max(1, body.min_workers or 0), "per_worker": 4}
        settings |= _given(body)
        _check_shards(card, settings["gpus"])
        settings["prefetch"] = [*(url for url in body.prefetch or () if url not in fetched), *fetched]
        settings["metadata"] = _with_card(body.metadata, card)
        if body.nodes_per_worker is not None:
            settings["nodes_per_worker"] = body.nodes_per_worker
        bundle_id = await _store(context, body.name, flavor, user.owner)
        settings |= {"name": body.name, "model_bundle_id": bundle_id, "endpoint_type": EndpointType.STREAMING}
        try:
            request = made_of(CreateModelEndpointRequest, settings)
            endpoint = await context.endpoints.create(user.owner, request)
        except APIError:
            await context.store.write(lambda conn: bundle_store.delete(conn, bundle_id), user.owner)
            raise
        return EndpointCreationResponse(endpoint_creation_task_id=endpoint.id)

    @api.post(routes.LLM_ENDPOINTS + "/download")
    async def download_llm_model(body: DownloadRequest, user: User) -> DownloadResponse:
        """Refuse to give URLs of a model's files: the server has none of them."""
        endpoint = await _find(context, user, body.model_name)
        card = _read(endpoint)
        where = card.checkpoint_path or f"hf://{card.model_name}"
        raise NotServed(
            f"the weights of {endpoint.name!r} are not stored here, workers fetch them from where they are: "
            + (f"download {where} from there" if endpoint.owner == user.owner else "ask its owner for them")
        )

    @api.put(_ONE)
    async def update_llm_model_endpoint(
        name: str, body: UpdateLLMEndpointRequest, user: User
    ) -> EndpointCreationResponse:
        """Change what is given; new workers replace the old ones only once they are ready."""
        endpoint = await _find(context, user, name, own=True)
        before = _read(endpoint)
        card = _card_of(before.model_dump(), body)
        flavor, fetched = _served(card, endpoint.name)
        owner, settings = endpoint.owner, _given(body)
        _check_shards(card, settings.get("gpus", endpoint.spec.gpus))
        bundle = await find_bundle(context.store, endpoint.bundle_id, owner)
        _, fetched_before = _served(before, endpoint.name)
        others = endpoint.spec.prefetch if body.prefetch is None else body.prefetch
        prefetch = [*(url for url in others or () if url not in (*fetched_before, *fetched)), *fetched]
        if prefetch != (endpoint.spec.prefetch or []):
            settings["prefetch"] = prefetch
        # The client sends {} where it was given nothing.
        settings["metadata"] = _with_card(body.metadata or endpoint.spec.metadata, card)
        served = bundle.flavor
        if isinstance(served, CommandFlavor):  # whose version of Python is the server's own
            flavor = flavor.model_copy(update={"python_version": served.python_version})
        if body.force_bundle_recreation or flavor != served:
            settings["model_bundle_id"] = await _store(context, endpoint.name, flavor, owner)
        await context.endpoints.update(owner, endpoint.id, made_of(UpdateModelEndpointRequest, settings))
        return EndpointCreationResponse(endpoint_creation_task_id=endpoint.id)

    @api.delete(_ONE)
    async def delete_llm_model_endpoint(name: str, user: User) -> DeleteModelEndpointResponse:
        """Delete an endpoint: running requests may finish, and waiting ones are refused."""
        endpoint = await _find(context, user, name, own=True)
        await context.endpoints.delete(endpoint.owner, endpoint.id)
        return DeleteModelEndpointResponse(deleted=True)


def _add_reads(api: ControlRouter, context: Context) -> None:
    @api.get(routes.LLM_ENDPOINTS, response_model=ListLLMEndpointsResponse)
    async def list_llm_model_endpoints(
        user: Caller,
        name: str | None = None,
        order_by: EndpointOrderBy | None = None,
        sglang: bool = False,
    ) -> Response:
        """List the caller's endpoints of language models and public ones, newest first unless asked otherwise.

        Those of SGLang are listed only with `sglang`, because llm-engine's client can't read them.
        """
        frameworks = set(Framework) if sglang else {Framework.VLLM}
        order = order_by or EndpointOrderBy.NEWEST

        def load(conn: Connection, ids: Sequence[str]) -> Iterator[tuple[EndpointRecord, BundleNames]]:
            for endpoint in endpoint_store.get_many(conn, ids):
                card = _card_in(endpoint) if may_see(endpoint, user) else None
                if card is not None and card.inference_framework in frameworks:
                    yield endpoint, bundle_names(conn, endpoint)

        ids = await context.store.read(
            lambda conn: endpoint_store.ids_of_owner(conn, ALL_OWNERS, name, order), user.owner
        )
        rows = InPages(context.store, ids, load, user.owner)
        return listed("model_endpoints", rows, lambda row: _described(context, *row, user))

    @api.get(_ONE)
    async def get_llm_model_endpoint(name: str, user: Caller) -> LLMEndpointResponse:
        """Get one endpoint of a language model: the caller's, or a public one."""
        endpoint = await _find(context, user, name)
        names = await context.store.read(lambda conn: bundle_names(conn, endpoint), endpoint.owner)
        return _described(context, endpoint, names, user)


def _add_refusals(api: ControlRouter) -> None:
    @api.get(routes.RESPONSES + "/{rest:path}", include_in_schema=False)
    @api.post(routes.RESPONSES + "/{rest:path}", include_in_schema=False)
    @api.delete(routes.RESPONSES + "/{rest:path}", include_in_schema=False)
    @api.post(routes.CONVERSATIONS, include_in_schema=False)
    async def refuse_stored(user: Caller, rest: str = "") -> None:
        """Refuse: answers go to the caller, and are not stored."""
        raise NotFound(NOT_STORED, code="not_stored")

    @api.post(routes.FINE_TUNES, include_in_schema=False)
    @api.get(routes.FINE_TUNES, include_in_schema=False)
    @api.get(routes.FINE_TUNES + "/{rest:path}", include_in_schema=False)
    @api.put(routes.FINE_TUNES + "/{rest:path}", include_in_schema=False)
    @api.post(routes.FINE_TUNING + "/{rest:path}", include_in_schema=False)
    @api.get(routes.FINE_TUNING + "/{rest:path}", include_in_schema=False)
    async def refuse_fine_tunes(user: User, rest: str = "") -> None:
        """Refuse: a container of one's own does that."""
        raise NotServed(_FINE_TUNES)


async def _find(context: Context, user: Principal, name: str, *, own: bool = False) -> EndpointRecord:
    """Find the endpoint of this name; raise NotFound where there is none, or it is not of a language model."""
    owner, own_name = named(context, user, name, public=not own)
    if own:
        record = await context.store.read(
            lambda conn: endpoint_store.get_by_name(conn, owner, own_name or ""), owner
        )
        endpoint = found(record, f"no endpoint of yours has the name {name!r}", "endpoint_not_found")
    else:
        endpoint = find_by_name(
            context.lanes, user.owner, owner if "/" in name else None, own_name or ""
        ).endpoint
    _read(endpoint)
    return endpoint


def _given(body: EndpointSettings) -> dict[str, Any]:
    """Return the settings of the endpoint that a request gives."""
    values = {name: getattr(body, name) for name in EndpointSettings.model_fields}
    return {name: value for name, value in values.items() if value is not None}


def _check_shards(card: ModelCard, gpus: float) -> None:
    if gpus and card.num_shards > max(1, gpus):
        raise wrong_field("num_shards", f"it is {card.num_shards}, more than gpus, which is {gpus:g}")


def _with_card(metadata: dict[str, Any] | None, card: ModelCard) -> dict[str, Any]:
    return {**(metadata or {}), CARD: card.model_dump(exclude_none=True)}


def _card_in(endpoint: EndpointRecord) -> ModelCard | None:
    """Read the card of an endpoint; None where it has none, or what users have written in its place."""
    try:
        return ModelCard.model_validate((endpoint.spec.metadata or {}).get(CARD))
    except ValidationError:
        return None


def _read(endpoint: EndpointRecord) -> ModelCard:
    return found(
        _card_in(endpoint),
        f"the endpoint {endpoint.name!r} was not made by POST {routes.LLM_ENDPOINTS}: {routes.ENDPOINTS} has it",
        "endpoint_not_found",
    )


def _card_of(before: dict[str, Any], body: CreateLLMEndpointRequest | UpdateLLMEndpointRequest) -> ModelCard:
    given = {name: getattr(body, name) for name in _CARD_FIELDS}
    more = {name: value for name, value in (body.model_extra or {}).items() if value is not None}
    card = before | {name: value for name, value in given.items() if value is not None}
    return ModelCard(**card | {"engine_args": before.get("engine_args", {}) | more})


def _served(card: ModelCard, name: str) -> tuple[CommandFlavor, list[str]]:
    """Return the bundle's flavor, and what is prefetched for it. Raise Unprocessable where it can't be served."""
    args, framework = card.engine_args, card.inference_framework
    path = card.checkpoint_path
    if path is None:
        if "/" not in card.model_name:
            raise wrong_field(
                "model_name",
                f"{card.model_name!r} is not ORG/REPO at Hugging Face: give that, or checkpoint_path",
            )
        path = f"hf://{card.model_name}@{args.get('revision', 'main')}"
    place, fetched = folder_of(path)
    own: dict[str, Any] = {_SHARDS[framework]: card.num_shards} if card.num_shards > 1 else {}
    if card.quantize is not None:
        own["quantization"] = card.quantize.value
    if card.chat_template_override is not None:
        own["chat_template"] = card.chat_template_override
    if (share := args.get("max_gpu_memory_utilization")) is not None:
        own[_MEMORY[framework]] = share
    passed = own | {key: value for key, value in args.items() if key not in _OURS}
    for key in passed:
        if not key.isidentifier():
            raise wrong_field(
                key[:100], "it is neither a setting of an endpoint nor an argument of an engine"
            )
    engine, tag = engine_of(framework.value), card.inference_framework_image_tag
    aliases = [args["served_model_name"]] if "served_model_name" in args else []
    flavor = made_of(
        CommandFlavor,
        {
            "flavor": "command",
            "command": command_of(engine, place, name, passed),
            "requirements": engine.requirements if tag == "latest" else [f"{engine.requirements[0]}=={tag}"],
            "env": OFFLINE,
            "predict_route": routes.CHAT_COMPLETIONS,
            "streaming_predict_route": routes.CHAT_COMPLETIONS,
            "healthcheck_route": "/health",
            "readiness_initial_delay_seconds": LOAD_SECONDS,
            "openai": {"models": aliases},
        },
    )
    return flavor, fetched


async def _store(context: Context, name: str, flavor: CommandFlavor, owner: str) -> str:
    body = made_of(CreateModelBundleRequest, {"name": name, "schema_location": "", "flavor": flavor})
    return await store_bundle(context, body, owner)


def _described(
    context: Context, endpoint: EndpointRecord, names: BundleNames, user: Principal
) -> LLMEndpointResponse:
    card, spec = _read(endpoint), described_with(context, endpoint, names, user)
    shown = _CARD_FIELDS if spec.bundle_name else {"model_name", "source", "inference_framework"}
    return LLMEndpointResponse(
        id=endpoint.id,
        name=endpoint.name,
        status=endpoint.status,
        spec=spec,
        **card.model_dump(include=shown),
    )

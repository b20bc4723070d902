"""Model bundles."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Unpack

from openlaunch.client import bucket
from openlaunch.client.effects import Flow, Request, answered, json_body, path_to, takes_owner, url_with, work
from openlaunch.client.models import ModelBundle, answer, checked, got
from openlaunch.client.operations.keywords import CodeKeywords, CommandKeywords, given
from openlaunch.client.packing.callables import pack_callables, python_version
from openlaunch.client.packing.documents import pack_schemas, read_app_config
from openlaunch.client.packing.requirements import read_requirements
from openlaunch.client.packing.returned_functions import returns_generator, returns_generator_in_file
from openlaunch.client.packing.zips import find_in_zip, module_in_zip, names_in_zip, pack_directories
from openlaunch.errors import BundleError, NotFound
from openlaunch.wire import routes
from openlaunch.wire.bundles import (
    CloneModelBundleRequest,
    CreateModelBundleRequest,
    CreateModelBundleResponse,
    DeleteModelBundleResponse,
    ListModelBundlesResponse,
    ModelBundleResponse,
    UploadResponse,
)

UPLOAD_SECONDS = 600.0
ANNOUNCED_BYTES = 1024**3
"""An upload over this size is announced: no bucket takes the largest ones in one request."""
BundleLike = ModelBundle | ModelBundleResponse | CreateModelBundleResponse | str


@takes_owner("model_bundle_name")
def create_model_bundle_from_callable_v2(
    *,
    model_bundle_name: str,
    load_predict_fn: Callable[..., Any],
    load_model_fn: Callable[..., Any],
    requirements: list[str] | None = None,
    code_dir: str | Path | None = None,
    include: list[str] | None = None,
    exclude: list[str] | None = None,
    health_fn: Callable[..., Any] | None = None,
    shutdown_fn: Callable[..., Any] | None = None,
    **keywords: Unpack[CodeKeywords],
) -> Flow[CreateModelBundleResponse]:
    """Make a bundle of two functions.

    A worker calls `load_predict_fn(load_model_fn())` once, or with an `app_config`,
    `load_predict_fn(app_config, load_model_fn(app_config))`. What that gives is called for each prediction,
    with the request's `args` as keywords. The functions may use anything of the modules that you wrote, whose files
    go along; what they import from installed packages has to be in `requirements`.

    Args:
        model_bundle_name: letters, digits, `.`, `_` and `-`; a name that exists gets a new version.
        load_predict_fn: gets the model, returns the predict function.
        load_model_fn: loads the model.
        requirements: as for pip, such as `numpy>=2`.
        code_dir: a folder that goes along, in which workers run; not what git ignores.
        include: patterns as in a .gitignore of the files of `code_dir` that go along, beside Python files; all
            files by default.
        exclude: patterns of files that stay behind.
        health_fn: gets the model; a worker in which it says no is replaced. `deploy` describes it.
        shutdown_fn: gets the model, before a worker ends.
        **keywords: of the bundle; `openlaunch.client.operations.keywords.CodeKeywords` describes them.

    Raises:
        BundleError: the functions can't be pickled, or there is too much code.
        Unprocessable: the name or a requirement is not allowed.
    """
    values = given(CodeKeywords, keywords)
    flavor = flavor_of_callables(load_predict_fn, load_model_fn, requirements, values)
    flavor["is_generator"] = returns_generator(load_predict_fn)
    checked_name_and_flavor(model_bundle_name, flavor, values)
    hooks = {"health_fn": health_fn, "shutdown_fn": shutdown_fn}
    pack = partial(pack_callables, load_model_fn, load_predict_fn, code_dir, include, exclude, hooks)
    data = yield from work(pack)
    return (yield from register(model_bundle_name, flavor, values, data))


def flavor_of_callables(
    load_predict_fn: Callable[..., Any],
    load_model_fn: Callable[..., Any],
    requirements: list[str] | None,
    values: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the flavor of a bundle of two functions, without where they are."""
    if isinstance(requirements, str) or not all(isinstance(one, str) for one in requirements or ()):
        raise BundleError(
            f"requirements is {requirements!r}, a list such as ['numpy>=2', 'pandas'] is needed"
        )
    return {
        "flavor": "cloudpickle_artifact",
        "load_predict_fn": _name_of(load_predict_fn),
        "load_model_fn": _name_of(load_model_fn),
        "requirements": requirements or [],
        **_framework_and_config(values),
    }


@takes_owner("model_bundle_name")
def create_model_bundle_from_dirs_v2(
    *,
    model_bundle_name: str,
    base_paths: list[str],
    load_predict_fn_module_path: str,
    load_model_fn_module_path: str,
    requirements_path: str | None = None,
    health_fn_module_path: str | None = None,
    shutdown_fn_module_path: str | None = None,
    **keywords: Unpack[CodeKeywords],
) -> Flow[CreateModelBundleResponse]:
    """Make a bundle of directories, with two functions in them named by module path.

    Each directory is in the bundle under its own name: with `base_paths=["my_module1"]`, a function `f` in
    `my_module1/my_file.py` is `my_module1.my_file.f`. A worker calls
    `load_predict_fn(app_config, load_model_fn(app_config))` once.

    Args:
        model_bundle_name: letters, digits, `.`, `_` and `-`; a name that exists gets a new version.
        base_paths: directories, seen from the current one. `__pycache__`, `.git` and the like stay here.
        load_predict_fn_module_path: of the function that gets the config and the model and returns the predict
            function.
        load_model_fn_module_path: of the function that gets the config and loads the model.
        requirements_path: of a requirements.txt.
        health_fn_module_path: of a function that gets the model and says whether the worker is healthy, as
            `health_fn` of `deploy` does.
        shutdown_fn_module_path: of a function that gets the model before a worker ends.
        **keywords: of the bundle; `openlaunch.client.operations.keywords.CodeKeywords` describes them.

    Raises:
        BundleError: a directory, module or requirement is not there or can't go along.
        Unprocessable: the name or a requirement is not allowed.
    """
    values = given(CodeKeywords, keywords)
    flavor = {
        "flavor": "zip_artifact",
        "load_predict_fn_module_path": load_predict_fn_module_path,
        "load_model_fn_module_path": load_model_fn_module_path,
        "requirements": read_requirements(requirements_path) if requirements_path else [],
        **_framework_and_config(values),
    }
    hooks = {
        "health_fn_module_path": health_fn_module_path,
        "shutdown_fn_module_path": shutdown_fn_module_path,
    }
    given_hooks = {key: path for key, path in hooks.items() if path is not None}
    flavor |= given_hooks
    checked_name_and_flavor(model_bundle_name, flavor, values)
    data = yield from work(lambda: pack_directories(base_paths))
    names = names_in_zip(data)
    for key in ("load_predict_fn_module_path", "load_model_fn_module_path", *given_hooks):
        flavor[key] = find_in_zip(str(flavor[key]), names, key)
    module, _, function = str(flavor["load_predict_fn_module_path"]).rpartition(".")
    flavor["is_generator"] = returns_generator_in_file(module_in_zip(data, module), function)
    return (yield from register(model_bundle_name, flavor, values, data))


@takes_owner("model_bundle_name")
def create_model_bundle_from_command(
    *,
    model_bundle_name: str,
    command: list[str],
    requirements: list[str] | None = None,
    base_paths: list[str] | None = None,
    streaming_predict_route: str = "/stream",
    **keywords: Unpack[CommandKeywords],
) -> Flow[CreateModelBundleResponse]:
    """Make a bundle of a command that serves HTTP on `$PORT` of 127.0.0.1, such as a model server that pip installs.

    A worker starts the command in an environment built from `requirements`, whose programs come first in `PATH`,
    and waits until `GET healthcheck_route` answers 2xx. A prediction is `POST predict_route` with the request's
    `args` as JSON, or with the bytes of its `url`, and its value is the JSON that is answered. On a streaming
    endpoint it is `POST streaming_predict_route`, and the items are the data of the server-sent events. An answer
    of 300 or more is a FAILURE with the text that was sent. When the command ends, its worker is replaced.

    Args:
        model_bundle_name: letters, digits, `.`, `_` and `-`; a name that exists gets a new version.
        command: the program and its arguments, in which `$PORT` is replaced; no shell is between.
        requirements: as for pip, such as `vllm`.
        base_paths: directories that are in the command's folder, each under its own name.
        streaming_predict_route: for streaming endpoints.
        **keywords: of the server; `openlaunch.client.operations.keywords.CommandKeywords` describes them.

    Raises:
        BundleError: a directory is not there or can't go along.
        Unprocessable: the name, a route or a requirement is not allowed.
    """
    values = given(CommandKeywords, keywords)
    flavor = {
        "flavor": "command",
        "command": command,
        "requirements": requirements or [],
        "streaming_predict_route": streaming_predict_route,
        **values,
    }
    checked_name_and_flavor(model_bundle_name, flavor, values)
    data = (yield from work(lambda: pack_directories(base_paths))) if base_paths else b""
    return (yield from register(model_bundle_name, flavor, values, data))


def _framework_and_config(values: Mapping[str, Any]) -> dict[str, Any]:
    return {"framework": framework(values), "app_config": read_app_config(values.get("app_config"))}


def framework(values: Mapping[str, Any]) -> dict[str, str]:
    """Return the framework of a bundle, as it is recorded.

    Raises ValueError when more than one is given, or only half of the custom image.
    """
    repository, tag = (values.get(f"custom_base_image_{part}") for part in ("repository", "tag"))
    if (repository is None) != (tag is None):
        raise ValueError(
            f"custom_base_image_repository is {repository!r} and custom_base_image_tag is {tag!r}: "
            "give both or neither"
        )
    choices = ("pytorch_image_tag", "tensorflow_version", "custom_base_image_repository")
    named = [name for name in choices if name in values]
    if len(named) > 1:
        raise ValueError(f"{' and '.join(named)} are given: give at most one")
    if named and repository is None:
        return {"framework_type": named[0].partition("_")[0], named[0]: values[named[0]]}
    return {
        "framework_type": "custom_base_image",
        "image_repository": repository or "python",
        "image_tag": tag or python_version(),
    }


def checked_name_and_flavor(
    name: str, flavor: dict[str, Any], values: Mapping[str, Any], location: str = "", schemas: str = ""
) -> dict[str, Any]:
    """Return the body that registers a bundle; without locations, check all else before anything is sent."""
    full = {**flavor, "location": location, "python_version": python_version()}
    document = {"name": name, "metadata": values.get("metadata"), "schema_location": schemas, "flavor": full}
    return checked(CreateModelBundleRequest, document)


def _name_of(function: object) -> str:
    module = getattr(function, "__module__", None)
    name = getattr(function, "__qualname__", type(function).__qualname__)
    return f"{module}.{name}"


def register(
    name: str, flavor: dict[str, Any], values: Mapping[str, Any], data: bytes
) -> Flow[CreateModelBundleResponse]:
    """Upload what a bundle is made of, and make it."""
    given = values.get("request_schema"), values.get("response_schema")
    schemas = pack_schemas(*given, checked=values.get("check_types", True))
    location = (yield from upload(data)) if data else ""
    schema_location = yield from upload(schemas)
    body = checked_name_and_flavor(name, flavor, values, location, schema_location)
    return (yield from answer(CreateModelBundleResponse, Request("POST", routes.BUNDLES, json_body(body))))


def upload(data: bytes, route: str = routes.BUNDLE_UPLOAD) -> Flow[str]:
    """Upload bytes to where the route says, and give the location that names them."""
    url = url_with(route, {"size": len(data) if len(data) > ANNOUNCED_BYTES else None})
    request = Request("POST", url, b"{}", idempotent=True)
    where, answer = yield from answered(request, UploadResponse.model_validate_json)
    yield from bucket.upload(where, answer, data, UPLOAD_SECONDS)
    return f"s3://{where.bucket}/{where.key}"


def get_model_bundle_v2(model_bundle_id: str) -> Flow[ModelBundleResponse]:
    """Get the bundle with this id.

    Raises:
        NotFound: there is none.
    """
    return (yield from got(ModelBundleResponse, path_to(routes.BUNDLES, model_bundle_id)))


def delete_model_bundle(model_bundle_id: str) -> Flow[bool]:
    """Delete the bundle with this id. Its bytes go within a day or two.

    Raises:
        NotFound: there is none.
        Conflict: an endpoint or a batch job names it.
    """
    request = Request("DELETE", path_to(routes.BUNDLES, model_bundle_id), idempotent=True)
    return (yield from answer(DeleteModelBundleResponse, request)).deleted


def get_latest_model_bundle_v2(model_bundle_name: str) -> Flow[ModelBundleResponse]:
    """Get the newest bundle of this name.

    Raises:
        NotFound: there is none.
    """
    url = url_with(f"{routes.BUNDLES}/latest", {"model_name": model_bundle_name})
    return (yield from got(ModelBundleResponse, url))


def get_model_bundle(model_bundle: ModelBundle | str) -> Flow[ModelBundle]:
    """Get the newest bundle of this name, or of the given bundle's name.

    Raises:
        NotFound: there is none.
    """
    name = model_bundle.name if isinstance(model_bundle, ModelBundle) else model_bundle
    return ModelBundle.of((yield from get_latest_model_bundle_v2(name)))


def list_model_bundles_v2(
    model_bundle_name: str | None = None, order_by: str | None = None, owner: str | None = None
) -> Flow[ListModelBundlesResponse]:
    """List your bundles, of one name or all; `order_by` is "newest" or "oldest".

    An admin lists those of another `owner`, or with `"*"` everybody's.
    """
    query = {"model_name": model_bundle_name, "order_by": order_by, "commands": "true", "owner": owner}
    return (yield from got(ListModelBundlesResponse, url_with(routes.BUNDLES, query)))


def list_model_bundles(owner: str | None = None) -> Flow[list[ModelBundle]]:
    """List all your bundles; an admin lists those of another `owner`, or with `"*"` everybody's."""
    listed = yield from list_model_bundles_v2(owner=owner)
    return [ModelBundle.of(bundle) for bundle in listed.model_bundles]


def clone_model_bundle_with_changes_v2(
    original_model_bundle_id: str, new_app_config: dict[str, Any] | None = None
) -> Flow[CreateModelBundleResponse]:
    """Make a bundle of the same code with another `app_config`."""
    body = checked(
        CloneModelBundleRequest,
        {"original_model_bundle_id": original_model_bundle_id, "new_app_config": new_app_config},
    )
    request = Request("POST", f"{routes.BUNDLES}/clone-with-changes", json_body(body))
    return (yield from answer(CreateModelBundleResponse, request))


def clone_model_bundle_with_changes(
    model_bundle: ModelBundle | str, app_config: dict[str, Any] | None = None
) -> Flow[ModelBundle]:
    """Make a bundle of the same code with another `app_config`, and give it."""
    original = yield from bundle_id(model_bundle)
    created = yield from clone_model_bundle_with_changes_v2(original, app_config)
    return ModelBundle.of((yield from get_model_bundle_v2(created.model_bundle_id)))


def bundle_id(bundle: BundleLike) -> Flow[str]:
    """Find the id of a bundle that is given as an object, by name (the newest) or by id.

    Raises NotFound when there is none of this name or id.
    """
    if isinstance(bundle, CreateModelBundleResponse):
        return bundle.model_bundle_id
    if isinstance(bundle, ModelBundle | ModelBundleResponse):
        return bundle.id or (yield from bundle_id(bundle.name))
    given: object = bundle
    if not isinstance(given, str):
        raise TypeError(f"a model bundle, its name or its id is needed here, not {given!r:.100}")
    try:
        return (yield from get_latest_model_bundle_v2(bundle)).id
    except NotFound:
        pass
    try:
        return (yield from get_model_bundle_v2(bundle)).id
    except NotFound as error:
        raise NotFound(
            f"there is no model bundle with the name or id {bundle!r}",
            code=error.code,
            request_id=error.request_id,
        ) from None

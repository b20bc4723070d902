"""Model bundles as Launch's first client made them. Deprecated there, and here only for programs that use them."""

from collections.abc import Callable, Mapping
from typing import Any, Unpack

from openlaunch.client.effects import Flow
from openlaunch.client.models import ModelBundle
from openlaunch.client.operations.bundles import (
    create_model_bundle_from_callable_v2,
    create_model_bundle_from_dirs_v2,
    get_model_bundle_v2,
)
from openlaunch.client.operations.keywords import AppKeywords


def create_model_bundle(
    model_bundle_name: str,
    env_params: Mapping[str, str],
    *,
    load_predict_fn: Callable[..., Any] | None = None,
    predict_fn_or_cls: Callable[..., Any] | None = None,
    requirements: list[str] | None = None,
    model: Any = None,
    load_model_fn: Callable[..., Any] | None = None,
    globals_copy: dict[str, Any] | None = None,
    **keywords: Unpack[AppKeywords],
) -> Flow[ModelBundle]:
    """Make a bundle. Deprecated: use `create_model_bundle_from_callable_v2`.

    Args:
        model_bundle_name: letters, digits, `.`, `_` and `-`; a name that exists gets a new version.
        env_params: `framework_type` and its image tag or version; recorded.
        load_predict_fn: gets the model, returns the predict function. Given with `model` or `load_model_fn`.
        predict_fn_or_cls: the predict function, or a class whose objects are; given alone.
        requirements: as for pip; nothing is guessed from what is imported.
        model: the model itself, which is pickled.
        load_model_fn: loads the model.
        globals_copy: for programs written for Launch; what the functions use is packed without it.
        **keywords: of the bundle; `openlaunch.client.operations.keywords.AppKeywords` describes them.

    Raises:
        ValueError: it is not clear which functions make the bundle.
        BundleError: the functions can't be pickled.
    """
    load_model, load_predict = _pair(load_predict_fn, predict_fn_or_cls, model, load_model_fn)
    created = yield from create_model_bundle_from_callable_v2(
        model_bundle_name=model_bundle_name,
        load_predict_fn=load_predict,
        load_model_fn=load_model,
        requirements=requirements,
        **_framework(env_params),
        **keywords,
    )
    return ModelBundle.of((yield from get_model_bundle_v2(created.model_bundle_id)))


def _pair(
    load_predict_fn: Callable[..., Any] | None,
    predict_fn_or_cls: Callable[..., Any] | None,
    model: Any,
    load_model_fn: Callable[..., Any] | None,
) -> tuple[Callable[..., Any], Callable[..., Any]]:
    given = (load_predict_fn is not None, predict_fn_or_cls is not None, model is not None)
    if given == (False, True, False) and load_model_fn is None:
        predict: Any = predict_fn_or_cls
        if isinstance(predict, type):
            return (lambda *_: predict()), (lambda *args: args[-1])
        return (lambda *_: None), (lambda *_: predict)
    if load_predict_fn is not None and predict_fn_or_cls is None:
        if model is not None and load_model_fn is None:
            return (lambda *_: model), load_predict_fn
        if model is None and load_model_fn is not None:
            return load_model_fn, load_predict_fn
    raise ValueError(
        "give exactly one of predict_fn_or_cls, load_predict_fn with model, and load_predict_fn with load_model_fn"
    )


def create_model_bundle_from_dirs(
    *,
    model_bundle_name: str,
    base_paths: list[str],
    requirements_path: str,
    env_params: Mapping[str, str],
    load_predict_fn_module_path: str,
    load_model_fn_module_path: str,
    **keywords: Unpack[AppKeywords],
) -> Flow[ModelBundle]:
    """Make a bundle of directories. Deprecated: use `create_model_bundle_from_dirs_v2`, which explains all.

    Args:
        model_bundle_name: letters, digits, `.`, `_` and `-`; a name that exists gets a new version.
        base_paths: directories, seen from the current one.
        requirements_path: of a requirements.txt.
        env_params: `framework_type` and its image tag or version; recorded.
        load_predict_fn_module_path: of the function that gets the config and the model.
        load_model_fn_module_path: of the function that gets the config and loads the model.
        **keywords: of the bundle; `openlaunch.client.operations.keywords.AppKeywords` describes them.

    Raises:
        BundleError: a directory, module or requirement is not there or can't go along.
    """
    created = yield from create_model_bundle_from_dirs_v2(
        model_bundle_name=model_bundle_name,
        base_paths=base_paths,
        load_predict_fn_module_path=load_predict_fn_module_path,
        load_model_fn_module_path=load_model_fn_module_path,
        requirements_path=requirements_path,
        **_framework(env_params),
        **keywords,
    )
    return ModelBundle.of((yield from get_model_bundle_v2(created.model_bundle_id)))


def _framework(env_params: Mapping[str, str]) -> dict[str, Any]:
    return {
        "pytorch_image_tag": env_params.get("pytorch_image_tag"),
        "tensorflow_version": env_params.get("tensorflow_version"),
        "custom_base_image_repository": env_params.get("ecr_repo"),
        "custom_base_image_tag": env_params.get("image_tag"),
    }

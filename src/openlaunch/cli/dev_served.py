"""One function that `openlaunch dev` serves."""

import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from openlaunch.client.deployable import check_functions
from openlaunch.client.packing.documents import pack_schemas
from openlaunch.client.packing.interface import Interface, interface_of
from openlaunch.errors import Conflict
from openlaunch.wire.keywords import DEFAULTS, DEPLOY_DEFAULTS
from openlaunch_worker.shapes import shape_of
from openlaunch_worker.working_tree import attribute

if TYPE_CHECKING:
    from openlaunch.client.client import LaunchClient

LOAD_SECONDS = 24 * 3600.0
"""How long a model may load; the user sees it, and can press Ctrl-C."""


class Served:
    """An endpoint whose workers read the function from its file, and that changes when what it takes does."""

    def __init__(self, module: Any, name: str, loader: str | None, settings: dict[str, Any]) -> None:
        self._module, self._name, self._loader, self._settings = module, name, loader, settings
        self.endpoint = name.strip("_").lower().replace("_", "-").replace(".", "-")
        self._deployed: tuple[object, ...] | None = None

    @property
    def function(self) -> Callable[..., Any]:
        found: Callable[..., Any] = attribute(self._module, self._name)
        return found

    @property
    def takes(self) -> str:
        """The function's parameters, for people."""
        parameters = list(inspect.signature(self.function).parameters.values())
        return ", ".join(map(str, parameters[self._loader is not None :]))

    def deploy(self, client: "LaunchClient", on_made: Callable[[str], None]) -> bool:
        """Create or change the endpoint where the function takes or returns something else now; return whether so.

        `on_made` is called with the endpoint's name before this waits for its workers.
        """
        check_functions(self.function, self._loader and attribute(self._module, self._loader), None)
        interface = self._interface()
        shape = shape_of(self.function)
        wanted = (pack_schemas(interface, interface), shape)
        if wanted == self._deployed:
            return False
        self._deployed = None
        bundle = client.create_model_bundle_from_callable_v2(
            model_bundle_name=self.endpoint,
            load_model_fn=self._load_model(),
            load_predict_fn=_load_predict(has_model=self._loader is not None, batches=self._batches),
            request_schema=cast("Any", interface),
            response_schema=cast("Any", interface),
        )
        kind = "streaming" if shape.yields else "sync"
        per_worker = DEFAULTS["per_worker"] if shape.on_loop else 1
        settings = {**DEPLOY_DEFAULTS, "per_worker": per_worker, **self._settings}
        made = self._made(client, bundle, kind, settings)
        on_made(self.endpoint)
        made.wait_until_ready(LOAD_SECONDS)
        self._deployed = wanted
        return True

    def _made(self, client: "LaunchClient", bundle: Any, kind: str, settings: dict[str, Any]) -> Any:
        def make() -> Any:
            return client.create_model_endpoint(
                endpoint_name=self.endpoint,
                model_bundle=bundle,
                endpoint_type=kind,
                update_if_exists=True,
                **settings,
            )

        try:
            return make()
        except Conflict:  # it streams now, or does so no more
            self.delete(client)
            return make()

    def delete(self, client: "LaunchClient") -> None:
        client.delete_model_endpoint(self.endpoint)

    @property
    def _batches(self) -> bool:
        return bool(self._settings.get("max_batch_size"))

    def _interface(self) -> Interface:
        return interface_of(self.function, has_model=self._loader is not None, batches=self._batches)

    def _load_model(self) -> Callable[[], Any]:
        here = str(Path.cwd())
        path = [each or here for each in sys.path]
        module, name, loader = self._module.__name__, self._name, self._loader

        def load_model() -> Any:
            from openlaunch_worker.working_tree import WorkingTree

            return WorkingTree(here, path, module, name, loader).load()

        vars(load_model)["for_thread"] = not shape_of(self.function).on_loop
        return load_model


def _load_predict(*, has_model: bool, batches: bool) -> Callable[[Any], Callable[..., Any]]:
    """Return what is called in a worker; like what loads, it goes along by value."""

    def load_predict(tree: Any) -> Callable[..., Any]:
        from openlaunch.client.packing.interface import interface_of, made_types

        predict: Callable[..., Any] = tree.predict()
        interface = interface_of(tree.function, has_model=has_model, batches=batches)
        takes = made_types(interface)
        if takes or interface.item is not None:
            vars(predict)["takes"], vars(predict)["item"] = takes, interface.item
        return predict

    return load_predict

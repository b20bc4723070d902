"""What would make an owner's endpoints what a file says, step by step."""

import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

from openlaunch.cli.project_file import Entry, Project
from openlaunch.cli.targets import load_functions
from openlaunch.client.client import LaunchClient
from openlaunch.client.models import differences
from openlaunch.client.operations import deploy, endpoints, llm
from openlaunch.client.packing.zips import files_of
from openlaunch.errors import NotFound
from openlaunch.wire.keywords import DEFAULTS

LABEL = "openlaunch.project"
"""The label of endpoints that a file has made, by which `--prune` knows them."""
_DIGEST = "openlaunch.digest"


@dataclass(frozen=True)
class Step:
    """One change, or none where `mark` is "=": what it is about, what is different, and what brings it about."""

    mark: str
    what: str
    details: tuple[str, ...]
    run: Callable[[], object]


class Plan:
    """Compares what a file says with what a server has."""

    def __init__(self, client: LaunchClient, project: Project) -> None:
        self._client, self._project = client, project
        os.chdir(project.path.parent)  # where the file's paths begin
        sys.path.insert(0, str(project.path.parent))

    def steps(self, *, prune: bool) -> Iterator[tuple[str, Callable[[], Step]]]:
        """Yield what each step is about, and what makes it, which raises what refuses it."""
        for bundle in self._project.bundles:
            yield f"bundle {bundle.name}", partial(self._of_bundle, bundle)
        for endpoint in self._project.endpoints:
            yield f"endpoint {endpoint.name}", partial(self._of_endpoint, endpoint)
        named = {each.name for each in self._project.endpoints}
        for found in self._client.list_model_endpoints():
            its = found.model_endpoint
            if its.name not in named and (its.labels or {}).get(LABEL) == self._project.name:
                yield f"endpoint {its.name}", partial(self._gone, its.name, prune=prune)

    def _gone(self, name: str, *, prune: bool) -> Step:
        why = "is not in the file any longer" + ("" if prune else "; --prune deletes it")
        mark = "-" if prune else "="
        return Step(
            mark, f"endpoint {name}", (why,), lambda: prune and self._client.delete_model_endpoint(name)
        )

    def _of_endpoint(self, entry: Entry) -> Step:
        values = dict(entry.values)
        values["labels"] = {**values.get("labels", {}), LABEL: self._project.name}
        if "function" in values:
            return self._of_function(entry.name, values)
        return (self._of_model if "model" in values else self._of_served_bundle)(entry.name, values)

    def _of_function(self, name: str, values: dict[str, Any]) -> Step:
        target, kind = values.pop("function"), values.pop("type", None)
        others = (values.pop(role, None) for role in ("load", "health", "shutdown"))
        function, loader, health, shutdown = load_functions(target, *others)
        keywords = {
            **values,
            "endpoint_type": kind,
            "load_model_fn": loader,
            "health_fn": health,
            "shutdown_fn": shutdown,
        }
        if isinstance(values.get("requirements"), str):
            from openlaunch.client.packing.requirements import read_requirements

            keywords["requirements"] = read_requirements(Path(values["requirements"]))
        before, changes = self._client.run(deploy.changes_of_deploy(function, name=name, **keywords))
        made = partial(self._client.deploy, function, name=name, reset=True, **keywords)
        return _step(name, before is None, f"of {target}", changes, made)

    def _of_model(self, name: str, values: dict[str, Any]) -> Step:
        before, changes = self._client.run(llm.changes_of_llm(name, **values))
        return _step(
            name,
            before is None,
            f"of {values['model']}",
            changes,
            partial(self._client.deploy_llm, name, **values),
        )

    def _of_served_bundle(self, name: str, values: dict[str, Any]) -> Step:
        bundle, kind = values.pop("bundle"), values.pop("type", "sync")
        creation = endpoints.creation(name, kind, cast("Any", values), DEFAULTS)
        create = partial(
            self._client.create_model_endpoint,
            endpoint_name=name,
            model_bundle=bundle,
            endpoint_type=kind,
            update_if_exists=True,
            **values,
        )
        before = self._client.run(endpoints.find(name))
        changes = [] if before is None else differences(before, creation)
        if before is not None:
            try:
                newest = self._client.get_latest_model_bundle_v2(bundle).id
            except NotFound:
                newest = None  # it is made by the same file
            if newest != before.bundle_id:
                changes.insert(0, "bundle")
        return _step(
            name, before is None, f"of the bundle {bundle}", changes, lambda: create().wait_until_ready()
        )

    def _of_bundle(self, entry: Entry) -> Step:
        digest = _digest(entry)
        try:
            before: Any = self._client.get_latest_model_bundle_v2(entry.name)
        except NotFound:
            before = None
        values = {**entry.values, "metadata": {_DIGEST: digest}}
        of = self._client.create_model_bundle_from_runnable_image_v2
        make: Callable[..., Any] = (
            of if "repository" in values else self._client.create_model_bundle_from_command
        )
        changes = [] if before is None or before.metadata.get(_DIGEST) == digest else ["a new version"]
        made = partial(make, model_bundle_name=entry.name, **values)
        step = _step(entry.name, before is None, "", changes, made)
        return Step(step.mark, f"bundle {entry.name}", step.details, step.run)


def _step(name: str, is_new: bool, of: str, changes: list[str], run: Callable[[], object]) -> Step:
    mark = "+" if is_new else "~" if changes else "="
    return Step(mark, f"endpoint {name}", (of,) if is_new and of else tuple(changes), run)


def _digest(entry: Entry) -> str:
    """Return a digest of a bundle's keywords, and of the files that go along."""
    found = hashlib.sha256(json.dumps(entry.values, sort_keys=True, default=str).encode())
    if base_paths := entry.values.get("base_paths"):
        for name, path in sorted(files_of(base_paths).items()):
            found.update(f"{name}\0".encode() + path.read_bytes())
    return found.hexdigest()

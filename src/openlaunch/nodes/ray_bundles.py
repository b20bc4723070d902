"""What is reserved for workers on a Ray cluster, without I/O: the time is an argument.

Each bundle is a placement group of its own. A worker holds the one that it was placed in. One that no worker holds is
used for the next worker of its shape, and given back after a while. What Ray has is compared with what runs at each
look: a bundle that nobody knows is given back, and a worker without one gets one on its node.
"""

import secrets
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

from openlaunch.engines.documents import Resources

Shape = tuple[float, int, float]
"""Cores, bytes of memory and GPUs, as Ray counts them."""

SMALLEST_CPUS = 0.001
"""For a worker that asks for nothing: a bundle can't be empty."""
FREE_SECONDS = 5.0
"""How long a bundle is kept that no worker holds."""
ASKED_SECONDS = 5.0
"""How long to wait for a bundle that nobody asks for again."""


def shape_of(asked: Resources) -> Shape:
    """Return the part of it that Ray is asked for."""
    nothing = not (asked.cpus or asked.memory or asked.gpus)
    return SMALLEST_CPUS if nothing else round(asked.cpus, 4), asked.memory, round(asked.gpus, 4)


def shape_of_bundle(bundle: Mapping[str, float]) -> Shape:
    """Read what Ray says of a bundle."""
    return (
        round(bundle.get("CPU", 0.0), 4),
        int(bundle.get("memory", 0)),
        round(bundle.get("GPU", 0.0), 4),
    )


def bundle_of(shape: Shape) -> dict[str, float]:
    """Return what Ray is asked for."""
    return {name: value for name, value in zip(("CPU", "memory", "GPU"), shape, strict=True) if value}


@dataclass(slots=True, eq=False)
class Bundle:
    """A placement group: its shape, its node, and who holds it or waits for it.

    `node` is empty while there is no room. `worker_id` is who had it last, `endpoint_id` who has asked for it last.
    `pinned`: it is for a worker that runs already. `avoids` are the nodes that it may not be on.
    """

    name: str
    shape: Shape
    made_at: float
    used_at: float
    node: str = ""
    worker_id: str = ""
    endpoint_id: str = ""
    pinned: bool = False
    avoids: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Seen:
    """A placement group as Ray shows it; `node` is empty while it waits for room."""

    name: str
    shape: Shape
    node: str


@dataclass(frozen=True, slots=True)
class Place:
    """Where a worker runs, by Ray's id of the node, and what it was given."""

    node: str
    shape: Shape


class Bundles:
    """The bundles of one set of records."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._by_name: dict[str, Bundle] = {}
        self._removed: set[str] = set()
        """Names of groups that were given back, and that Ray may still list."""

    def __iter__(self) -> Iterator[Bundle]:
        return iter(list(self._by_name.values()))

    def add(self, shape: Shape, now: float, **about: object) -> Bundle:
        """Note a bundle that is asked for."""
        name = f"{self._prefix}{secrets.token_hex(8)}"
        bundle = self._by_name[name] = Bundle(name, shape, now, now, **about)  # type: ignore[arg-type]
        return bundle

    def remove(self, bundle: Bundle) -> None:
        """Forget a bundle that is given back."""
        del self._by_name[bundle.name]
        self._removed.add(bundle.name)

    def free(self, shape: Shape, usable: Collection[str], running: Mapping[str, Place]) -> Bundle | None:
        """Return a bundle on one of these nodes that no worker holds."""
        return next((each for each in self.idle(usable, running) if each.shape == shape), None)

    def waited_for(self, endpoint_id: str, shape: Shape, ahead: int) -> Bundle | None:
        """Return what the endpoint has asked for and has not yet, behind the first ones that others wait for."""
        asked = [
            each
            for each in self._by_name.values()
            if each.endpoint_id == endpoint_id and each.shape == shape and not each.worker_id
        ]
        return asked[ahead] if ahead < len(asked) else None

    def is_scarce(self, shape: Shape) -> bool:
        """Return whether there was no room for one of this shape when that was last seen."""
        return any(not each.node and each.shape == shape for each in self._by_name.values())

    def compare(self, seen: Iterable[Seen], running: Mapping[str, Place], began: float, now: float) -> None:
        """Take over what Ray has, as of the time `began`, and note which worker holds which bundle."""
        there = {each.name: each for each in seen}
        self._removed &= there.keys()
        for bundle in self:
            if bundle.name not in there and bundle.made_at < began:
                del self._by_name[bundle.name]
        for each in there.values():
            if each.name in self._removed:
                continue
            bundle = self._by_name.setdefault(each.name, Bundle(each.name, each.shape, now, now))
            bundle.node = each.node or bundle.node
        self._assign(running)
        for bundle in self:
            if _is_held(bundle, running):
                bundle.used_at = now

    def _assign(self, running: Mapping[str, Place]) -> None:
        held = {bundle.worker_id for bundle in self if _is_held(bundle, running)}
        for worker_id, place in running.items():
            if worker_id in held:
                continue
            fitting = self.free(place.shape, (place.node,), running)
            if fitting is not None:
                fitting.worker_id = worker_id

    def lacking(self, running: Mapping[str, Place]) -> list[str]:
        """Return the workers that run without a bundle."""
        held = {bundle.worker_id for bundle in self if _is_held(bundle, running)}
        return [worker_id for worker_id in running if worker_id not in held]

    def idle(self, usable: Collection[str], running: Mapping[str, Place]) -> list[Bundle]:
        """Return those on one of these nodes that no worker holds."""
        return [each for each in self if each.node in usable and not _is_held(each, running)]

    def unused(self, running: Mapping[str, Place], avoid: frozenset[str], now: float) -> list[Bundle]:
        """Return what is to be given back."""
        return [bundle for bundle in self if not _is_held(bundle, running) and _is_over(bundle, avoid, now)]


def _is_held(bundle: Bundle, running: Mapping[str, Place]) -> bool:
    place = running.get(bundle.worker_id)
    return place is not None and bundle.node in ("", place.node)


def _is_over(bundle: Bundle, avoid: frozenset[str], now: float) -> bool:
    if bundle.pinned and not bundle.node:
        return True
    if not bundle.worker_id and bundle.endpoint_id and (bundle.node in avoid or not bundle.node):
        # Asked for elsewhere, it may be there sooner.
        return bundle.avoids != avoid or now - bundle.used_at > ASKED_SECONDS
    return now - bundle.used_at > FREE_SECONDS

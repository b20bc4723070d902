"""Lists as callers give them."""

from collections.abc import Iterable, Mapping


def check_items(name: str, items: object, kind: type, example: str) -> None:
    """Raise TypeError unless something is None or has items of a type; a text would be a list of its letters."""
    if items is None:
        return
    if not isinstance(items, Iterable) or isinstance(items, str | bytes | Mapping):
        raise TypeError(f"{name} is {items!r:.100}: a list such as {example} is needed")
    for item in items if isinstance(items, list | tuple) else ():
        if not isinstance(item, kind):
            raise TypeError(f"{name} has {item!r:.100}: a list such as {example} is needed")

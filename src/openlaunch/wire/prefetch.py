"""What an endpoint has downloaded into its owner's cache before its workers start."""

from typing import Annotated

from pydantic import AfterValidator, Field

from openlaunch_worker.prefetch_urls import source_of

MAX_PREFETCH = 50


def _check(urls: list[str]) -> list[str]:
    places: dict[str, str] = {}
    for url in urls:
        place = source_of(url).place
        if places.setdefault(place, url) != url:
            raise ValueError(f"two of them would be {place} in the cache: name one")
    return list(dict.fromkeys(urls))


Prefetch = Annotated[list[str], Field(max_length=MAX_PREFETCH), AfterValidator(_check)]
"""URLs, each of another place in the cache."""

"""How bytes are named in bundles: `s3://BUCKET/KEY`, which is what existing clients write."""

from openlaunch.errors import Unprocessable

BUCKET = "openlaunch"
BUNDLES_FOLDER, INPUTS_FOLDER = UPLOADS = ("bundles", "batch-inputs")
"""Where what owners upload lies, in a folder for each of them."""
FOLDERS = (*UPLOADS, "files", "payloads", "results", "answers", "batch-results")
"""All folders of artifacts."""


def location_of(key: str) -> str:
    """Return the location that names an artifact."""
    return f"s3://{BUCKET}/{key}"


def key_of(location: str) -> str:
    """Return the key of an artifact.

    Raises Unprocessable when the location does not name one of this server's artifacts.
    """
    prefix = location_of("")
    if not location.startswith(prefix) or location == prefix:
        raise Unprocessable(
            f"the location {location!r} is not one of this server's: upload the bytes first, and name them "
            f"as the upload route said ({prefix}KEY)",
            code="unknown_location",
        )
    return location.removeprefix(prefix)


def upload_folder(kind: str, owner: str) -> str:
    """Return the folder of what an owner uploads of this kind."""
    return f"{kind}/{owner.encode().hex()}/"


def uploader_of(key: str) -> str | None:
    """Return whose upload an artifact is; None: it is not an upload."""
    kind, _, rest = key.partition("/")
    if kind not in UPLOADS:
        return None
    try:
        return bytes.fromhex(rest.partition("/")[0]).decode()
    except ValueError:
        return None

"""Every system that is measured, as its own documentation recommends it for production."""

from benchmarks.harness.processes import System

UVICORN = ("--host", "127.0.0.1", "--port", "{port}", "--log-level", "warning", "--no-access-log")

REFERENCE = System(
    "reference",
    "reference: uvicorn, raw ASGI",
    ("uvicorn", "uvloop", "httptools", "msgspec"),
    ("uvicorn", "uvloop", "httptools"),
    (
        "{bin}/uvicorn",
        "app:app",
        *UVICORN,
        "--loop",
        "uvloop",
        "--http",
        "httptools",
        "--ws",
        "none",
        "--lifespan",
        "off",
    ),
)


def openlaunch(kind: str, label: str) -> System:
    """This project, from this checkout, with one endpoint: see openlaunch/serve.py."""
    return System("openlaunch", label, (".[server]",), ("openlaunch",), ("{bin}/python", "serve.py", kind))

"""`OPENLAUNCH_*` variables that nothing reads: said, because what they were meant to set is not set."""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches

PREFIX = "OPENLAUNCH_"
OF_THE_CLIENT = ("API_KEY", "CA_FILE", "CONFIG_FILE", "DATA_DIR", "PROFILE", "URL")
_OF_WORKERS = "WORKER_"
"""How those begin that the server sets for a worker, in which another server may be started."""

_CLEARLY_MEANT = 0.8
_OTHER_WORDS = {"ENDPOINT": "URL", "HOME": "DATA_DIR", "KEY": "API_KEY", "SERVER": "URL", "TOKEN": "API_KEY"}
"""Names that one may take the client's to have, from an option of the command or from other programs."""


def unknown(environ: Mapping[str, str], settings: Iterable[str]) -> list[str]:
    """Return a sentence for each variable that is neither one of the server's settings nor the client's."""
    known = {name.upper() for name in settings} | set(OF_THE_CLIENT)
    wrong = [name for name in _ours(environ) if name not in known and not name.startswith(_OF_WORKERS)]
    return [_sentence(name, get_close_matches(name, known, 1)) for name in wrong]


def misspelled(environ: Mapping[str, str]) -> list[str]:
    """Return a sentence for each variable that is almost one of the client's."""
    near = {
        name: [_OTHER_WORDS[name]]
        if name in _OTHER_WORDS
        else get_close_matches(name, OF_THE_CLIENT, 1, _CLEARLY_MEANT)
        for name in _ours(environ)
        if name not in OF_THE_CLIENT
    }
    return [_sentence(name, meant) for name, meant in near.items() if meant]


def _ours(environ: Mapping[str, str]) -> list[str]:
    return sorted(name.upper().removeprefix(PREFIX) for name in environ if name.upper().startswith(PREFIX))


def _sentence(name: str, meant: list[str]) -> str:
    hint = f"did you mean {PREFIX}{meant[0]}?" if meant else "`openlaunch docs settings` lists them"
    return f"{PREFIX}{name} is set, and there is no such setting: {hint}"

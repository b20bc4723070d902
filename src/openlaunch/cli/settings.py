"""The options for an endpoint's settings, made of the client's keywords: every command has the same ones."""

import inspect
from collections.abc import Callable, Mapping
from typing import Annotated, Any, TypeVar, get_args

import typer

from openlaunch.cli.inputs import pairs
from openlaunch.wire.keywords import KEYWORD_HELP, KEYWORD_TYPES

F = TypeVar("F", bound=Callable[..., Any])

REFUSED = ("high_priority",)
"""Keywords without an option, because the server supports no value but their default."""

_NAMES = {
    "labels": "--label",
    "secrets": "--secret",
    "cors_origins": "--cors-origin",
    "public_inference": "--public",
    "post_inference_hooks": "--post-inference-hook",
    "rollback_after_failures": "--rollback-after",
    "probation_requests": "--probation",
}
"""The options that are named otherwise than their keyword."""

_FORMS = {
    "labels": "KEY=VALUE",
    "env": "NAME=VALUE",
    "secrets": "NAME",
    "prefetch": "URL",
    "cors_origins": "ORIGIN",
    "record": "KEY=VALUE",
    "post_inference_hooks": "HOOK",
}
"""What the help shows in place of the type."""


def with_settings(
    *names: str, defaults: Mapping[str, str] | None = None, changing: bool = False
) -> Callable[[F], F]:
    """Give a command an option for each named setting, or for all, in place of its `**settings`.

    `defaults` replaces the defaults that the help names; a command that is `changing` settings names none.
    """
    chosen = names or tuple(name for name in KEYWORD_HELP if name not in REFUSED)

    def decorate(command: F) -> F:
        signature = inspect.signature(command, eval_str=True)
        own = [each for each in signature.parameters.values() if each.kind is not each.VAR_KEYWORD]
        options = [_option(name, (defaults or {}).get(name), changing) for name in chosen]
        needed = [each for each in own if each.default is each.empty]
        others = [each.replace(kind=each.KEYWORD_ONLY) for each in own if each.default is not each.empty]
        command.__signature__ = signature.replace(parameters=[*needed, *others, *options])  # type: ignore[attr-defined]
        return command

    return decorate


def _option(name: str, default: str | None, changing: bool) -> inspect.Parameter:
    text, _, usual = KEYWORD_HELP[name].partition(" Default: ")
    if not changing:
        text += f"  [default: {default or usual.removesuffix('.')}]"
    kind = _type(KEYWORD_TYPES[name])
    flag = _NAMES.get(name, f"--{name.replace('_', '-')}")
    if kind is bool:
        flag += f"/--no-{flag.removeprefix('--')}"
    annotation = Annotated[kind | None, typer.Option(flag, help=text, metavar=_FORMS.get(name))]  # type: ignore[valid-type]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def _type(annotation: Any) -> Any:
    """Return what the command line parses: a quantity is text, and labels are a list of KEY=VALUE."""
    kinds = [each for each in get_args(annotation) if each is not type(None)]
    if len(kinds) > 1:
        return str
    return list[str] if getattr(kinds[0], "__origin__", None) is dict else kinds[0]


def given(settings: dict[str, Any]) -> dict[str, Any]:
    """Return the settings that were given, as the client takes them."""
    found = {name: value for name, value in settings.items() if value not in (None, [])}
    for name, option in (("labels", "--label"), ("env", "--env"), ("record", "--record")):
        if name in found:
            found[name] = pairs(found[name], option)
    return found

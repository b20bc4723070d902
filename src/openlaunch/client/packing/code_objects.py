"""What is in code objects, and in those that they hold."""

import ast
import dis
from collections.abc import Iterator
from types import CodeType

from openlaunch.client.packing.own_code import absolute


def nested(code: CodeType) -> Iterator[CodeType]:
    """Give a code object and those inside it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from nested(constant)


def names_in(code: CodeType) -> set[str]:
    """Return the names of globals and attributes that code uses."""
    return {name for one in nested(code) for name in one.co_names}


def texts_in(code: CodeType) -> set[str]:
    """Return the texts that are written in code."""
    return {one for inner in nested(code) for one in inner.co_consts if isinstance(one, str)}


def renamed(code: CodeType, filename: str) -> CodeType:
    """Return code that is shown as of another file."""
    constants = (renamed(one, filename) if isinstance(one, CodeType) else one for one in code.co_consts)
    return code.replace(co_filename=filename, co_consts=tuple(constants))


def imports_in(code: CodeType, package: str) -> Iterator[str]:
    """Return the modules that code imports when it runs."""
    for one in nested(code):
        if dis.opmap["IMPORT_NAME"] not in one.co_code[::2]:
            continue
        steps = list(dis.get_instructions(one))
        for position, step in enumerate(steps):
            if step.opname == "IMPORT_NAME":
                level, names = steps[position - 2].argval, steps[position - 1].argval
                aliases = [ast.alias(name) for name in names or ()]
                yield from absolute(step.argval, level, package, aliases)

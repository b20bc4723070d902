"""Shows the client's operations as methods in the reference of the Python API.

A class of the client has `create = blocking(operations.create)`, or gets it from a table of the client's operations,
whose rows are `create = Operation(operations.create)`. A program that reads the source without running it,
as griffe does for mkdocstrings, takes that for an attribute. This extension of griffe makes it a method, with the
operation's parameters and docstring; the keywords of an unpacked TypedDict are parameters like the others.
"""

import ast
import re
from collections.abc import Iterator
from typing import Any

from griffe import (
    Attribute,
    Class,
    Docstring,
    Expr,
    ExprCall,
    Extension,
    Function,
    Module,
    Parameter,
    ParameterKind,
    Parameters,
)

MAKERS = {"blocking", "awaitable", "Operation"}
TABLE = "client.operation_table.Operations"


class Methods(Extension):
    """Replaces attributes that are made of operations by functions, those of the table in the clients."""

    def on_package(self, *, pkg: Module, **_: Any) -> None:
        """Replace them in all classes of a package."""
        table = pkg[TABLE]
        for attribute in list(table.attributes.values()):
            replace(pkg, table, attribute)
        for module in modules(pkg):
            for member in module.classes.values():
                if isinstance(member, Class):
                    for attribute in list(member.attributes.values()):
                        replace(pkg, member, attribute)
                    if table.path in [getattr(base, "canonical_path", base) for base in member.bases]:
                        for name, method in table.functions.items():
                            if name not in member.members and not name.startswith("_"):
                                member.set_member(name, method)
                    if member.docstring is not None:  # Markdown needs no mark before indented code
                        member.docstring.value = member.docstring.value.replace("\n::\n", "\n")


def modules(module: Module) -> list[Module]:
    """List a module and all below it."""
    return [
        module,
        *(found for each in module.modules.values() if isinstance(each, Module) for found in modules(each)),
    ]


def replace(pkg: Module, owner: Class, attribute: Any) -> None:
    """Replace an attribute by a function where it is made of an operation."""
    value = attribute.value if isinstance(attribute, Attribute) else None
    if not isinstance(value, ExprCall) or str(value.function) not in MAKERS:
        return
    operation = found(pkg, owner, value.arguments[0])
    then = found(pkg, owner, value.arguments[1]) if len(value.arguments) > 1 else None
    method = Function(
        attribute.name,
        parameters=Parameters(Parameter("self"), *unpacked(pkg, operation.parameters)),
        returns=then.returns if then is not None else within(operation.returns),
        docstring=described(pkg, operation),
        lineno=attribute.lineno,
        endlineno=attribute.endlineno,
    )
    if str(value.function) == "awaitable":
        method.labels.add("async")
    owner.set_member(attribute.name, method)


def unpacked(pkg: Module, parameters: Parameters) -> Iterator[Parameter]:
    """Yield the parameters, and each keyword of an unpacked TypedDict as one of them."""
    for parameter in parameters:
        if parameter.kind is not ParameterKind.var_keyword:
            yield parameter
            continue
        for name, annotation in keywords(pkg, parameter.annotation.slice.canonical_path):
            kind, _ = typed(annotation)
            needed = str(annotation).startswith("Required")
            yield Parameter(
                name,
                annotation=kind,
                kind=ParameterKind.keyword_only,
                default=None if needed else "None",
            )


def described(pkg: Module, operation: Any) -> Docstring | None:
    """Give the docstring of an operation, with a line for each keyword of an unpacked TypedDict."""
    doc: Docstring | None = operation.docstring
    last = list(operation.parameters)[-1:]
    if doc is None or not last or last[0].kind is not ParameterKind.var_keyword:
        return doc
    found = keywords(pkg, last[0].annotation.slice.canonical_path)
    lines = "".join(f"    {name}: {typed(annotation)[1]}\n" for name, annotation in found)
    text = re.sub(r"^    \*\*\w+: .*\n(?: {8}.*\n)*", lambda _: lines, doc.value, flags=re.MULTILINE)
    return Docstring(text, lineno=doc.lineno, endlineno=doc.endlineno, parent=doc.parent)


def keywords(pkg: Module, path: str) -> Iterator[tuple[str, Any]]:
    """Yield the names and annotations of a TypedDict of the package, those of its bases first."""
    if not path.startswith(f"{pkg.name}."):
        return
    kind = pkg[path.removeprefix(f"{pkg.name}.")]
    for base in kind.bases:
        yield from keywords(pkg, base.canonical_path)
    for name, attribute in kind.attributes.items():
        yield name, attribute.annotation


def typed(annotation: Any) -> tuple[str, str]:
    """Give the type and the text of `Annotated[type, text]`."""
    tree = ast.parse(str(annotation), mode="eval").body
    assert isinstance(tree, ast.Subscript)
    if ast.unparse(tree.value) == "Required":
        return typed(ast.unparse(tree.slice))
    assert isinstance(tree.slice, ast.Tuple)
    kind, text = tree.slice.elts
    return ast.unparse(kind), ast.literal_eval(text)


def found(pkg: Module, owner: Class, name: Any) -> Any:
    """Find the function that an expression names: in the class's module, for the class has the same names."""
    first, *rest = str(name).split(".")
    target: Any = owner.module.members[first]
    path = ".".join([target.target_path if target.is_alias else target.path, *rest])
    return pkg[path.removeprefix(f"{pkg.name}.")]


def within(returns: Any) -> Any:
    """Give what a flow returns: `T` of `Flow[T]`."""
    return returns.slice if isinstance(returns, Expr) and hasattr(returns, "slice") else returns

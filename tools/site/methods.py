"""Shows the client's operations as methods in the reference of the Python API.

A class of the client has `create = blocking(operations.create)`. A program that reads the source without running it,
as griffe does for mkdocstrings, takes that for an attribute. This extension of griffe makes it a method, with the
operation's parameters and docstring.
"""

from typing import Any

from griffe import Attribute, Class, Expr, ExprCall, Extension, Function, Module, Parameter, Parameters

MAKERS = {"blocking", "awaitable"}


class Methods(Extension):
    """Replaces attributes that are made of operations by functions."""

    def on_package(self, *, pkg: Module, **_: Any) -> None:
        """Replace them in all classes of a package."""
        for module in modules(pkg):
            for member in module.classes.values():
                if isinstance(member, Class):
                    for attribute in list(member.attributes.values()):
                        replace(pkg, member, attribute)
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
        parameters=Parameters(Parameter("self"), *operation.parameters),
        returns=then.returns if then is not None else within(operation.returns),
        docstring=operation.docstring,
        lineno=attribute.lineno,
        endlineno=attribute.endlineno,
    )
    if str(value.function) == "awaitable":
        method.labels.add("async")
    owner.set_member(attribute.name, method)


def found(pkg: Module, owner: Class, name: Any) -> Any:
    """Find the function that an expression names: in the class's module, for the class has the same names."""
    first, *rest = str(name).split(".")
    target: Any = owner.module.members[first]
    path = ".".join([target.target_path if target.is_alias else target.path, *rest])
    return pkg[path.removeprefix(f"{pkg.name}.")]


def within(returns: Any) -> Any:
    """Give what a flow returns: `T` of `Flow[T]`."""
    return returns.slice if isinstance(returns, Expr) and hasattr(returns, "slice") else returns

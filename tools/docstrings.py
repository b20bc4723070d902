"""Find docstrings that can't be understood alone, by how they begin.

That of a function begins with a verb that says what the function does, such as "Return". Any other, also that of a
constant or an attribute, names what it is about, and does not continue the one before it: "The same of jobs."
"""

import ast
import re
from collections.abc import Iterator

PLAIN = "begin with a verb in its imperative form, such as 'Return'"

STANDS_ALONE = "name what this is about, so that it can be understood alone"
_CONTINUES = re.compile(r"(The same|Of|Those|Its|Their|By (what|which)|As whom)\b")
_OTHER_WORDS = """
a after all an another any as at because before both by each either every false for from given he her here his how if
in into it its many maybe most my neither no none nothing now of on once one only or other our same she so some
something such that the their then there these they this those to true until we what when where whether which while
who whose why with without you your
"""
_VERBS_LIKE_NO_IMPERATIVE = """
access address bring bypass compress cross discuss dismiss embed express feed focus guess miss need pass press process
proceed seed shed speed spring string suppress
"""
_NO_VERBS = frozenset(_OTHER_WORDS.split())
_IMPERATIVE = frozenset(_VERBS_LIKE_NO_IMPERATIVE.split())
_PROPERTIES = frozenset({"property", "cached_property"})


def findings(source: str) -> Iterator[tuple[int, str]]:
    """Yield the line number and the first word of each function's docstring that begins with another word.

    Properties are named by what they are, and so left out.
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not _is_property(node):
            words = (ast.get_docstring(node) or "").split()
            if words and not is_imperative(words[0]):
                yield node.body[0].lineno, words[0]


def continuations(source: str) -> Iterator[tuple[int, str]]:
    """Yield the line number and the first words of each docstring that continues its surroundings."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            text = node.value.value
            if isinstance(text, str) and (begins := _CONTINUES.match(text)) is not None:
                yield node.lineno, begins[0]


def is_imperative(word: str) -> bool:
    """Return whether the first word of a sentence can be a verb in its imperative form."""
    word = word.rstrip(",.:;").lower()
    if word in _IMPERATIVE:
        return True
    return word.isalpha() and word not in _NO_VERBS and not word.endswith(("s", "ed", "ing"))


def _is_property(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    decorators = (ast.unparse(each).rpartition(".")[2] for each in function.decorator_list)
    return any(name in _PROPERTIES for name in decorators)

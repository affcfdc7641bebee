"""What a model wrote → its answer, as JMED-LLM reads it (sociocom/JMED-LLM, src/utils.py), but nothing is executed."""

import ast
import json
import re
import warnings

NONE = "None"  # a choice that could not be read; for kappa one more class, which sorts after F

_LONGEST = 100_000  # characters; a list that long is a model that repeats itself

Entity = str | int | float | bool | None


def read_letter(output: str) -> str:
    """The first half-width letter of A–F, wherever it stands, or NONE."""
    found = re.search("[A-F]", output)
    return found[0] if found else NONE


def read_list(output: str) -> tuple[list[Entity], bool]:
    """(entities, whether the answer is unread). An unread answer has no entities.

    The output is read as a Python list of literals, as `list(…)` of a literal, or as a sum of these. The reference runs
    it with `eval`, and so also reads other calls, comprehensions and arithmetic, which are unread here. So is what the
    reference fails at later: lists and dicts among the entities.
    """
    try:
        if len(output) > _LONGEST:
            raise ValueError
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of escapes like \d
            entities = _list(output)
        if not all(isinstance(entity, Entity) for entity in entities):
            raise ValueError
        json.dumps(entities, ensure_ascii=False).encode()  # lone surrogates, numbers too long to be written down
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):  # all that literal_eval may raise
        return [], True
    return entities, False


def _list(source: str) -> list:
    node, terms = ast.parse(source.lstrip(" \t"), mode="eval").body, []
    while isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        terms.append(node.right)
        node = node.left
    return [entity for term in (node, *reversed(terms)) for entity in _term(term)]


def _term(node: ast.expr) -> list:
    match node:
        case ast.Call(func=ast.Name(id="list"), args=[argument], keywords=[]):
            return list(ast.literal_eval(argument))
    value = ast.literal_eval(node)
    if not isinstance(value, list):
        raise ValueError
    return value

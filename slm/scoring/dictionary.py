"""Entities of training rows, looked up: the longest first, without overlaps, whatever the width and case."""

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence, Set

Row = tuple[str, Collection[str]]  # a text, the entities in it


def precisions(rows: Iterable[Row]) -> dict[str, float]:
    """{entity, folded: in what share of the rows that contain it it is an entity}."""
    known = [(_folded(text), {folded(entity) for entity in entities} - {""}) for text, entities in rows]
    heads = _heads(set().union(*(entities for _, entities in known)))
    met: Counter[str] = Counter()
    right: Counter[str] = Counter()
    for (text, offsets), entities in known:
        surfaces = {text[start:end] for start, end in _matches(text, offsets, heads)}
        met.update(surfaces)
        right.update(surfaces & entities)
    # One more row without: what was met once says less than what was met often.
    return {entity: right[entity] / (met[entity] + 1) for entity in met}


def look_up(precisions: dict[str, float], least: float, texts: Iterable[str]) -> list[list[tuple[int, int]]]:
    """(start, end) in each text of the entities with at least this precision."""
    heads = _heads({entity for entity, precision in precisions.items() if precision >= least})
    answers = []
    for text in texts:
        plain, offsets = _folded(text)
        answers.append([(offsets[start], offsets[end]) for start, end in _matches(plain, offsets, heads)])
    return answers


def folded(text: str) -> str:
    """The text without difference of width and case."""
    return _folded(text)[0]


def _folded(text: str) -> tuple[str, list[int]]:
    """(text without difference of width and case, where in `text` each of its characters is from, the end included)."""
    # Decomposed one by one: a half-width voiced kana is two characters, the full-width one becomes the same two.
    characters = [(folded, index) for index, character in enumerate(text)
                  for folded in unicodedata.normalize("NFKD", character).lower()]
    return "".join(folded for folded, _ in characters), [*(index for _, index in characters), len(text)]


def _heads(entities: Set[str]) -> dict[str, list[str]]:
    """{first character: entities that begin with it, the longest first}."""
    heads = defaultdict(list)
    for entity in sorted(entities, key=lambda entity: (-len(entity), entity)):
        heads[entity[0]].append(entity)
    return heads


def _matches(folded: str, offsets: Sequence[int], heads: dict[str, list[str]]) -> Iterable[tuple[int, int]]:
    """(start, end) of entities in folded text, the longest at each position, that begin and end with a character."""
    def inside(index: int) -> bool:
        return 0 < index < len(folded) and (offsets[index] == offsets[index - 1]
                                            or unicodedata.combining(folded[index]) > 0)

    start = 0
    while start < len(folded):
        fits = (entity for entity in heads.get(folded[start], ()) if folded.startswith(entity, start)
                and not inside(start) and not inside(start + len(entity)))
        entity = next(fits, None)
        if entity:
            yield start, start + len(entity)
        start += len(entity) if entity else 1

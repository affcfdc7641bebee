"""Masking of personal information by typed placeholders: [氏名], [電話番号], ….

`identifiers` finds numbers, contacts, addresses and dates of birth, `names` finds persons and facilities. Doses,
laboratory values and other dates stay. Nothing of it is ever logged.
"""

import re
from collections import Counter
from collections.abc import Iterable

from slm.text import identifiers, names, spans
from slm.text.spans import Span

VERSION = 2  # raise it when the same text is masked differently

PLACEHOLDERS = {
    "email": "[メールアドレス]", "phone": "[電話番号]", "postal_code": "[郵便番号]", "address": "[住所]",
    "my_number": "[個人番号]", "insurance_number": "[保険番号]", "patient_number": "[患者番号]",
    "birth_date": "[生年月日]", "name": "[氏名]", "facility": "[施設名]",
}
_PUBLIC = ("name", "facility", "birth_date", "address", "postal_code")  # of an article's subject


def mask(text: str, tagged: tuple[list[str], list[str]], persons: bool = True,
         facilities: re.Pattern | None = None) -> tuple[str, Counter]:
    """`text` (normalised) with placeholders, and the number of placeholders by kind.

    Args:
      tagged: `Morphology.tag(text)`.
      persons: also names, dates of birth, addresses and facilities; False for text about public persons and places.
      facilities: `facility_list(…)`, masked with `persons` wherever they occur.
    """
    matches = [*identifiers.numbers(text, persons)]
    if persons:
        matches += spans.table_cells(text)
        matches += [*identifiers.births(text), *identifiers.births_by_sex(text)]
        matches += [*names.labelled(text), *names.persons_and_facilities(text, *tagged)]
        for related in (names.readings, identifiers.numbers_by_name, identifiers.births_behind,
                        identifiers.codes_before):
            matches += list(related(text, matches))
        if facilities:
            matches += [Span(*match.span(), "facility") for match in facilities.finditer(text)]
    else:
        matches = [span for span in matches if span.kind not in _PUBLIC]
    parts: list[str] = []
    counts: Counter[str] = Counter()
    position = 0
    for span in sorted(matches, key=lambda span: (span.start, -span.end)):
        if span.end <= position:  # inside the span before
            continue
        # Of overlapping spans the rest of the second is masked too: half a number is still a number.
        parts += [text[position:max(position, span.start)], PLACEHOLDERS[span.kind] if span.start >= position else ""]
        counts[span.kind] += span.start >= position
        position = span.end
    return "".join([*parts, text[position:]]), +counts


def facility_list(facility_names: Iterable[str]) -> re.Pattern | None:
    """A pattern for a list of facilities, longest first; None for an empty list."""
    ordered = sorted({name for name in facility_names if len(name) > 2}, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, ordered))) if ordered else None

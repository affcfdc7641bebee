"""Personal information found and masked by typed placeholders: [氏名], [電話番号], ….

`identifiers` finds numbers, contacts, addresses and dates of birth, `names` persons and places of care. Doses,
laboratory values and dates other than those of birth are left alone. What is found is never logged.
"""

import re
from collections import Counter
from collections.abc import Iterable

from slm.text import identifiers, names, spans
from slm.text.spans import Span

VERSION = 1  # raise it when something else is masked

PLACEHOLDERS = {
    "email": "[メールアドレス]", "phone": "[電話番号]", "postal_code": "[郵便番号]", "address": "[住所]",
    "my_number": "[個人番号]", "insurance_number": "[保険番号]", "patient_number": "[患者番号]",
    "birth_date": "[生年月日]", "name": "[氏名]", "facility": "[施設名]",
}
_PUBLIC = ("name", "facility", "birth_date", "address", "postal_code")  # of an article's subject


def mask(text: str, tagged: tuple[list[str], list[str]], persons: bool = True,
         facilities: re.Pattern | None = None) -> tuple[str, Counter]:
    """`text` (normalised) with placeholders, and how many of each kind.

    Args:
      tagged: `Morphology.tag(text)`.
      persons: also names, dates of birth, addresses and places of care: not for text about public persons and places.
      facilities: `facility_list(…)`, places to mask with `persons` wherever they stand.
    """
    found = [*identifiers.numbers(text, persons)]
    if persons:
        found += spans.table_cells(text)
        found += [*identifiers.births(text), *identifiers.births_by_sex(text)]
        found += [*names.labelled(text), *names.persons_and_places(text, *tagged)]
        found += list(names.readings(text, found))
        found += list(identifiers.numbers_by_name(text, found))
        found += list(identifiers.births_behind(text, found))
        found += list(identifiers.codes_before(text, found))
        if facilities:
            found += [Span(*match.span(), "facility") for match in facilities.finditer(text)]
    else:
        found = [span for span in found if span.kind not in _PUBLIC]
    parts, position, counts = [], 0, Counter()
    for span in sorted(found, key=lambda span: (span.start, -span.end)):
        if span.end <= position:  # inside one already masked
            continue
        # What sticks out of the one before is masked too: half a number is still a number.
        parts += [text[position:max(position, span.start)], PLACEHOLDERS[span.kind] if span.start >= position else ""]
        counts[span.kind] += span.start >= position
        position = span.end
    return "".join([*parts, text[position:]]), +counts


def facility_list(names_of_places: Iterable[str]) -> re.Pattern | None:
    """A pattern for a list of places of care, longest first; None for an empty list."""
    ordered = sorted({name for name in names_of_places if len(name) > 2}, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, ordered))) if ordered else None

"""Spans of personal information, and the cells of tables whose column heads name it."""

import re
from collections.abc import Iterator
from typing import NamedTuple


class Span(NamedTuple):
    start: int
    end: int
    kind: str


_HEADS = {
    "name": "氏名|お?名前|姓名|フリガナ|ふりがな|カナ|患者名?|主治医|担当医?|担当者|受け持ち|家族|キーパーソン|連絡者",
    "patient_number": "(?:患者|カルテ|診察券|入院|外来|受付)?(?:ID|番号|No\\.?|NO\\.?)|カルテ|診察券",
    "birth_date": "生年月日|誕生日|DOB", "phone": "電話(?:番号)?|TEL|Tel|連絡先|携帯|FAX", "address": "住所|現住所",
    "insurance_number": "保険者番号|被保険者番号|記号・?番号|保険証番号", "email": "メール(?:アドレス)?|E-?mail",
    "postal_code": "〒|郵便番号", "my_number": "個人番号|マイナンバー", "facility": "紹介元|医療機関名?|施設名?|病院名",
}
_HEAD = {kind: re.compile(rf"(?:{labels})(?:\(.{{0,6}}\))?") for kind, labels in _HEADS.items()}
_CELL = re.compile(r"[^|\t]+")


def table_cells(text: str) -> Iterator[Span]:
    """Cells of tables (separated by | or tab) in columns whose head names personal information."""
    kinds: list[str | None] = []
    start = 0
    for line in text.split("\n"):
        cells = list(_CELL.finditer(line)) if "|" in line or "\t" in line else []
        heads = [_kind(cell.group().strip()) for cell in cells]
        if sum(head is not None for head in heads) > 1:
            kinds = heads
        elif kinds and len(cells) == len(kinds):
            for cell, kind in zip(cells, kinds):
                value = cell.group().strip()
                if kind and value and not re.fullmatch(r"[-:ー―—\s]*|なし|不明|同上", value):
                    first = start + cell.start() + cell.group().index(value)
                    yield Span(first, first + len(value), kind)
        else:
            kinds = []
        start += len(line) + 1


def _kind(head: str) -> str | None:
    return next((kind for kind, pattern in _HEAD.items() if pattern.fullmatch(head)), None)

"""The hand-written tables of the sample corpus, and how their numbers are read and written."""

import csv
import functools
from pathlib import Path
from typing import Any

DATA = Path(__file__).parent / "data"
LISTS = {"symptoms", "signs", "examinations", "drugs", "treatments", "risks", "history", "vitals", "labs", "care",
         "indications", "adverse", "contraindications"}

Row = dict[str, Any]  # a string, of the columns of LISTS a list of strings


@functools.cache
def tables() -> dict[str, dict[str, Row]]:
    """Table → name → row; the list columns split at 、."""
    result = {}
    for path in sorted(DATA.glob("*.tsv")):
        with path.open(encoding="utf-8", newline="") as file:
            lines: list[Row] = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
        for row in lines:
            row.update({key: row[key].split("、") if row[key] else [] for key in LISTS & row.keys()})
        result[path.stem] = {row["name"]: row for row in lines}
    return result


@functools.cache
def rows(table: str) -> tuple[Row, ...]:
    return tuple(tables()[table].values())


@functools.cache
def labs() -> dict[str, Row]:
    return {row["abbreviation"]: row for row in rows("examinations") if row["abbreviation"]}


@functools.cache
def treats() -> dict[str, list[str]]:
    """Drug → diseases."""
    return {drug: [row["name"] for row in rows("diseases") if drug in row["drugs"]] for drug in tables()["drugs"]}


# Numbers


def written(value: float, like: str) -> str:
    """`value` with the decimals of `like`, in hundreds if `like` is."""
    if "." in like:
        return f"{value:,.{len(like.split('.')[1])}f}"
    return f"{round(value, -2 if like.endswith('00') else 0):,.0f}"


def bounds(spec: str) -> tuple[float, float]:
    low, high = spec.split("-")
    return float(low), float(high)


def reference(row: Row, sex: str) -> tuple[str, str]:
    return (row["low_female"], row["high_female"]) if sex == "女" and row["low_female"] else (row["low"], row["high"])


def with_unit(value: str, unit: str) -> str:
    return value + (unit if not unit or unit[0] in "/%万" else f" {unit}")

"""The composition of a corpus as a figure."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from slm import figures


def draw(folder: Path, amounts: Mapping[str, int], dropped: Mapping[str, int], documents_in: int,
         unit: str = "characters") -> list[str]:
    """Composition of a corpus by source, in `unit`, and the documents that were dropped, by reason.

    Writes `proportions.png` and `proportions.svg` in `folder`, and returns their paths.
    """
    if dropped:
        figure = figures.blank(10, 4.2)
        left, right = figure.subplots(1, 2, width_ratios=(1, 1.3))
        _bars(right, dropped, documents_in)
    else:
        figure = figures.blank(4.6, 4.4)
        left = figure.add_subplot()
    shown = _largest(amounts)
    total = max(1, sum(shown.values()))
    # Numbers distinguish the wedges in greyscale print.
    numbers = [str(number) if value / total >= 0.03 else "" for number, value in enumerate(shown.values(), 1)]
    wedges, _ = left.pie(shown.values(), labels=numbers, labeldistance=0.8, colors=figures.COLOURS, startangle=90,
                         counterclock=False, wedgeprops={"width": 0.4, "edgecolor": "white"},
                         textprops={"ha": "center", "va": "center", "fontsize": 9})
    names = [f"{number}  {name}  {value / total:.1%}" for number, (name, value) in enumerate(shown.items(), 1)]
    left.legend(wedges, names, loc="upper center", bbox_to_anchor=(0.5, 0.02), frameon=False, fontsize=8)
    note = "" if dropped else f"\nof {documents_in:,} documents none was dropped"
    left.set_title(f"Corpus: {_count(sum(amounts.values()))} {unit}{note}", fontsize=10)
    return figures.save(figure, folder / "proportions")


def _bars(axes: Any, dropped: Mapping[str, int], documents_in: int) -> None:
    shown = _largest(dropped, most=14)
    names, counts = list(shown)[::-1], list(shown.values())[::-1]
    labels = [f"{count:,}  ({count / max(1, documents_in):.2%})" for count in counts]
    axes.bar_label(axes.barh(names, counts, color=figures.COLOURS[0]), labels, padding=3, fontsize=8)
    axes.set_title(f"Dropped: {sum(dropped.values()):,} of {documents_in:,} documents, by reason", fontsize=10)
    axes.set_xlabel("Documents", fontsize=9)
    axes.set_xlim(0, max(counts) * 1.3)
    figures.plain(axes)


def _count(number: int) -> str:
    return f"{number / 1e6:,.1f} M" if number >= 1e6 else f"{number:,}"


def _largest(values: Mapping[str, int], most: int = len(figures.COLOURS)) -> dict[str, int]:
    """The largest in descending order, the rest as "other"."""
    ordered = sorted(values.items(), key=lambda pair: -pair[1])
    rest = sum(value for _, value in ordered[most - 1:])
    return dict(ordered) if len(ordered) <= most else {**dict(ordered[:most - 1]), "other": rest}

"""What all figures share: a font with Japanese that pip installs, colours for all eyes, PNG and SVG; and the
proportions of a corpus."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

COLOURS = ("#4477aa", "#66ccee", "#228833", "#ccbb44", "#ee6677", "#aa3377", "#bbbbbb")  # Paul Tol's, for all eyes
MARKERS = ("o", "s", "^", "D", "v", "P", "X")  # beside the colours, for print in grey
DARK, GREY = "#333333", "#999999"
_MOST = len(COLOURS)


class NothingToPlot(ValueError):
    """A source is there, and holds nothing that the figure could show."""


def blank(width: float, height: float) -> Any:
    """A matplotlib Figure of so many inches, in IPAexGothic; it belongs to no window, so nothing is left open.

    Raises:
      RuntimeError: without matplotlib or its font.
    """
    try:
        import matplotlib
        import matplotlib_fontja  # noqa: F401  brings IPAexGothic
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise RuntimeError(f"drawing needs {error.name}: pip install 'slm[figures]'") from None
    matplotlib.rc("font", family=["IPAexGothic", "DejaVu Sans"])  # the second for signs that the first lacks
    return FigureCanvasAgg(Figure(figsize=(width, height), layout="constrained")).figure


def save(figure: Any, path: Path) -> list[str]:
    """Writes `path`.png and `path`.svg, each whole or not at all; the same figure gives the same bytes.

    Returns:
      The two paths.
    """
    import matplotlib
    path.parent.mkdir(parents=True, exist_ok=True)
    written = []
    for suffix, metadata in (("png", None), ("svg", {"Date": None})):
        target, aside = (path.with_name(f"{path.name}.{end}") for end in (suffix, f"{suffix}.writing"))
        with matplotlib.rc_context({"svg.hashsalt": "slm"}):
            figure.savefig(aside, format=suffix, dpi=160, metadata=metadata)
        os.replace(aside, target)
        written.append(str(target))
    return written


def plain(axes: Any) -> None:
    """Leaves of an axes' frame what is read from."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)


def proportions(folder: Path, amounts: Mapping[str, int], dropped: Mapping[str, int], documents_in: int,
                unit: str = "characters") -> list[str]:
    """What a corpus is made of, by `unit` of each source, and what was dropped of it, by reason and documents.

    Writes `proportions.png` and `proportions.svg` in `folder`, and returns their paths.
    """
    if dropped:
        figure = blank(10, 4.2)
        left, right = figure.subplots(1, 2, width_ratios=(1, 1.3))
        _bars(right, dropped, documents_in)
    else:
        figure = blank(4.6, 4.4)
        left = figure.add_subplot()
    shown = _largest(amounts)
    total = max(1, sum(shown.values()))
    # Numbers tell the wedges apart in grey print.
    numbers = [str(number) if value / total >= 0.03 else "" for number, value in enumerate(shown.values(), 1)]
    wedges, _ = left.pie(shown.values(), labels=numbers, labeldistance=0.8, colors=COLOURS, startangle=90,
                         counterclock=False, wedgeprops={"width": 0.4, "edgecolor": "white"},
                         textprops={"ha": "center", "va": "center", "fontsize": 9})
    names = [f"{number}  {name}  {value / total:.1%}" for number, (name, value) in enumerate(shown.items(), 1)]
    left.legend(wedges, names, loc="upper center", bbox_to_anchor=(0.5, 0.02), frameon=False, fontsize=8)
    nothing = "" if dropped else f"\nof {documents_in:,} documents none was dropped"
    left.set_title(f"Corpus: {_count(sum(amounts.values()))} {unit}{nothing}", fontsize=10)
    return save(figure, folder / "proportions")


def _bars(axes: Any, dropped: Mapping[str, int], documents_in: int) -> None:
    shown = _largest(dropped, most=14)
    names, counts = list(shown)[::-1], list(shown.values())[::-1]
    labels = [f"{count:,}  ({count / max(1, documents_in):.2%})" for count in counts]
    axes.bar_label(axes.barh(names, counts, color=COLOURS[0]), labels, padding=3, fontsize=8)
    axes.set_title(f"Dropped: {sum(dropped.values()):,} of {documents_in:,} documents, by reason", fontsize=10)
    axes.set_xlabel("Documents", fontsize=9)
    axes.set_xlim(0, max(counts) * 1.3)
    plain(axes)


def _count(number: int) -> str:
    return f"{number / 1e6:,.1f} M" if number >= 1e6 else f"{number:,}"


def _largest(values: Mapping[str, int], most: int = _MOST) -> dict[str, int]:
    """The largest, descending, the rest as "other"."""
    ordered = sorted(values.items(), key=lambda pair: -pair[1])
    rest = sum(value for _, value in ordered[most - 1:])
    return dict(ordered) if len(ordered) <= most else {**dict(ordered[:most - 1]), "other": rest}

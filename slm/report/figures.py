"""Figures, with Japanese labels in a font that pip installs; PNG and SVG."""

from collections.abc import Mapping
from pathlib import Path

_COLOURS = ("#4477aa", "#66ccee", "#228833", "#ccbb44", "#ee6677", "#aa3377", "#bbbbbb")  # Paul Tol's, for all eyes
_MOST = len(_COLOURS)


def proportions(folder: Path, characters: Mapping[str, int], dropped: Mapping[str, int], documents_in: int) -> None:
    """What a corpus is made of, by characters of each source, and what was dropped of it, by reason and documents.

    Writes `proportions.png` and `proportions.svg` in `folder`.
    """
    import matplotlib
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    import matplotlib_fontja  # noqa: F401  makes IPAexGothic the font
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4.2), width_ratios=(1, 1.3), layout="constrained")
    shown = _largest(characters)
    total = max(1, sum(shown.values()))
    wedges, _ = left.pie(shown.values(), colors=_COLOURS, startangle=90, counterclock=False,
                         wedgeprops={"width": 0.4, "edgecolor": "white"})
    left.legend(wedges, [f"{name}  {value / total:.1%}" for name, value in shown.items()], loc="upper center",
                bbox_to_anchor=(0.5, 0.02), frameon=False, fontsize=8)
    left.set_title(f"Corpus: {sum(characters.values()) / 1e6:,.1f} M characters", fontsize=10)
    shown = _largest(dropped, most=14)
    names, counts = list(shown)[::-1], list(shown.values())[::-1]
    bars = right.barh(names, counts, color="#4477aa")
    labels = [f"{count:,}  ({count / max(1, documents_in):.2%})" for count in counts]
    right.bar_label(bars, labels, padding=3, fontsize=8)
    right.set_title(f"Dropped: {sum(dropped.values()):,} of {documents_in:,} documents, by reason", fontsize=10)
    right.set_xlim(0, max(counts, default=1) * 1.3)
    right.spines[["top", "right"]].set_visible(False)
    if not counts:
        right.axis("off")
    right.tick_params(labelsize=8)
    for suffix in ("png", "svg"):
        figure.savefig(folder / f"proportions.{suffix}", dpi=160)
    plt.close(figure)


def _largest(values: Mapping[str, int], most: int = _MOST) -> dict[str, int]:
    """The largest, descending, the rest as "other"."""
    ordered = sorted(values.items(), key=lambda pair: -pair[1])
    rest = sum(value for _, value in ordered[most - 1:])
    return dict(ordered) if len(ordered) <= most else {**dict(ordered[:most - 1]), "other": rest}

"""What all figures share: a font with Japanese that pip installs, colour-blind safe colours, PNG and SVG."""

from pathlib import Path
from typing import Any

from slm import files

COLOURS = ("#4477aa", "#66ccee", "#228833", "#ccbb44", "#ee6677", "#aa3377", "#bbbbbb")  # Paul Tol's, colour-blind safe
MARKERS = ("o", "s", "^", "D", "v", "P", "X")  # beside the colours, for greyscale print
DARK, GREY = "#333333", "#999999"


class NothingToPlot(ValueError):
    """A source exists, but holds nothing to plot."""


def blank(width: float, height: float) -> Any:
    """An empty matplotlib Figure, size in inches, in IPAexGothic; it belongs to no window, so none is left open.

    Raises:
      RuntimeError: without matplotlib or its font.
    """
    try:
        import matplotlib
        import matplotlib_fontja  # noqa: F401  registers IPAexGothic
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise RuntimeError(f"drawing needs {error.name}: pip install 'slm[figures]'") from None
    matplotlib.rc("font", family=["IPAexGothic", "DejaVu Sans"])  # the second for missing glyphs
    return FigureCanvasAgg(Figure(figsize=(width, height), layout="constrained")).figure


def save(figure: Any, path: Path) -> list[str]:
    """Writes `path`.png and `path`.svg, each completely or not at all; the same figure gives the same bytes.

    Returns:
      The two paths.
    """
    import matplotlib
    written = []
    for suffix, metadata in (("png", None), ("svg", {"Date": None})):
        target = path.with_name(f"{path.name}.{suffix}")
        with files.written_aside(target) as aside, matplotlib.rc_context({"svg.hashsalt": "slm"}):
            figure.savefig(aside, format=suffix, dpi=160, metadata=metadata)
        written.append(str(target))
    return written


def plain(axes: Any) -> None:
    """Removes the frame but for the two axes that are read."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)

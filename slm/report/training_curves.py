"""Loss and bits per byte during training: pretraining over tokens, fine-tuning over steps, each seed."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from slm import figures
from slm import workdir as workdirs
from slm.files import read_whole_json_lines

METRICS_FILE, VALIDATION_FILE = "metrics.jsonl", "validation.jsonl"
_LINES = ("-", "--", "-.", ":")
_SHOWN = 10  # sources in a panel; more could not be distinguished


def draw(path: Path, pretrain: Path | None, sft: Path | None) -> dict:
    """Writes `path`.png and .svg; returns their paths and the last numbers of each training.

    Args:
      pretrain, sft: workdirs; each gets a row of two panels. At least one is not None.
    """
    rows = [(name, draw_row, workdir) for name, draw_row, workdir in (
        ("pretrain", _pretraining, pretrain), ("sft", _fine_tuning, sft)) if workdir]
    figure = figures.blank(10.5, 3.9 * len(rows))
    # Subfigures, so that one row's legend takes no space from the other.
    subfigures = figure.subfigures(len(rows), 1, squeeze=False)[:, 0]
    numbers = {name: draw_row(subfigure.subplots(1, 2), workdir)
               for subfigure, (name, draw_row, workdir) in zip(subfigures, rows)}
    return {"files": figures.save(figure, path), **numbers}


def _pretraining(panels: Sequence[Any], workdir: Path) -> dict:
    left, right = panels
    rows = workdirs.read_config(workdir)["rows"]
    tokens_per_step = rows["batch_size"] * rows["seq_len"]
    steps, validations = _metrics(workdir / METRICS_FILE), read_whole_json_lines(workdir / VALIDATION_FILE)
    unit, unit_name = _unit(steps[-1]["step"] * tokens_per_step)

    def tokens(lines: Sequence[dict]) -> np.ndarray:
        return np.array([line["step"] for line in lines]) * tokens_per_step / unit
    _loss(left, tokens(steps), steps, figures.COLOURS[0], "training")
    if validations:
        left.plot(tokens(validations), [line["loss"] for line in validations], figures.MARKERS[3], markersize=5,
                  color=figures.COLOURS[4], label="validation")
    _limit(left, [line["loss"] for line in steps])
    _label(left, f"Pretraining: {workdir.name}", f"Tokens ({unit_name})", "Loss (nats per token)")
    by_source = _by_source(validations)
    for (source, values), style in zip(by_source.items(), _styles(), strict=False):
        right.plot(tokens(validations), values, label=source, **style)
    if validations:
        right.plot(tokens(validations), [line["bits_per_byte"] for line in validations], color="black", linewidth=2.2,
                   marker=".", label="all")
    _label(right, "Validation, by source", f"Tokens ({unit_name})", "Bits per byte")
    right.set_ylim(bottom=0)
    right.set_xlim(left=0)
    if validations:
        right.legend(frameon=False, fontsize=7.5, loc="center left", bbox_to_anchor=(1.01, 0.5))
    last = validations[-1] if validations else {}
    return {"workdir": str(workdir), "tokens": steps[-1]["step"] * tokens_per_step,
            "bits_per_byte": last.get("bits_per_byte")}


def _fine_tuning(panels: Sequence[Any], workdir: Path) -> dict:
    left, right = panels
    folders = sorted(path.parent for path in workdir.glob(f"**/training/{METRICS_FILE}"))
    names = [" ".join(folder.parent.relative_to(workdir).parts).replace("-", " ") for folder in folders]
    last: dict[str, list[float]] = {}
    losses = []
    for index, (folder, name) in enumerate(zip(folders, names)):
        steps, validations = _metrics(folder / METRICS_FILE), read_whole_json_lines(folder / VALIDATION_FILE)
        colour = figures.COLOURS[index % 6]
        losses += [line["loss"] for line in steps]
        _loss(left, [line["step"] for line in steps], steps, colour, name, _LINES[index % len(_LINES)])
        left.plot([line["step"] for line in validations], [line["loss"] for line in validations],
                  figures.MARKERS[index % 7], color=colour, markersize=6, markeredgecolor="white")
        for source, values in _by_source(validations).items():
            last.setdefault(source, []).append(values[-1])
    left.plot([], [], figures.MARKERS[0], color=figures.GREY, label="validation")
    _limit(left, losses)
    _label(left, f"Fine-tuning: {workdir.name}", "Steps", "Loss (nats per token)")
    for y, values in enumerate(reversed(last.values())):
        right.plot([min(values), max(values)], [y, y], color=figures.GREY, linewidth=2.5, zorder=1)
        right.plot(values, [y] * len(values), "o", color=figures.COLOURS[0], markersize=4, alpha=0.7)
        right.plot(np.mean(values), y, figures.MARKERS[3], color=figures.COLOURS[4], markersize=7,
                   markeredgecolor="white")
    right.set_yticks(range(len(last)), list(reversed(last)))
    right.set_ylim(-0.6, len(last) - 0.4)
    right.set_xlim(left=0)
    _label(right, "Validation after fine-tuning: each model, and their mean", "Bits per byte", "")
    right.grid(axis="x", color="#e5e5e5", linewidth=0.7)
    right.set_axisbelow(True)
    return {"workdir": str(workdir), "models": len(folders),
            "bits_per_byte_by_source": {source: float(np.mean(values)) for source, values in last.items()}}


def _loss(axes: Any, x: Sequence[float] | np.ndarray, steps: Sequence[dict], colour: str, name: str,
          style: str = "-") -> None:
    values = np.array([line["loss"] for line in steps], float)
    axes.plot(x, values, color=colour, alpha=0.18, linewidth=0.7)
    axes.plot(x, smooth(values), style, color=colour, linewidth=1.6, label=name)


def _limit(axes: Any, losses: Sequence[float]) -> None:
    """Cuts off the highest losses: those of the first steps would flatten the rest of the curve."""
    finite = np.array([loss for loss in losses if np.isfinite(loss)])
    if len(finite):
        axes.set_ylim(0, float(np.quantile(finite, 0.995)) * 1.05)
    axes.legend(frameon=False, fontsize=8, loc="upper right")


def smooth(values: np.ndarray) -> np.ndarray:
    """Moving average over a fiftieth of the steps around each; values that are not finite are left out."""
    half = max(1, len(values) // 100)
    finite = np.isfinite(values)
    window = np.ones(2 * half + 1)
    total, count = (np.convolve(summands, window)[half:half + len(values)]
                    for summands in (np.where(finite, values, 0.0), finite.astype(float)))
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _metrics(path: Path) -> list[dict]:
    steps = read_whole_json_lines(path)
    if not steps:
        raise figures.NothingToPlot(f"{path} holds no step: train longer, then draw again")
    return steps


def _by_source(validations: Sequence[dict]) -> dict[str, list[float]]:
    """Bits per byte of each source at each validation, the highest at the end first."""
    if not validations:
        return {}
    last = validations[-1]["bits_per_byte_by_source"]
    order = sorted(last, key=lambda source: -last[source])[:_SHOWN]
    return {source: [line["bits_per_byte_by_source"].get(source, np.nan) for line in validations] for source in order}


def _styles() -> list[dict]:
    return [{"color": figures.COLOURS[i % 6], "marker": figures.MARKERS[i % 7], "linestyle": "-" if i < 6 else "--",
             "markersize": 4, "linewidth": 1.2} for i in range(_SHOWN)]


def _unit(tokens: int) -> tuple[float, str]:
    return next(((size, name) for size, name in ((1e9, "billions"), (1e6, "millions"), (1e3, "thousands"))
                 if tokens >= size), (1.0, "number"))


def _label(axes: Any, title: str, x: str, y: str) -> None:
    axes.set_title(title, fontsize=10)
    axes.set_xlabel(x, fontsize=9)
    axes.set_ylabel(y, fontsize=9)
    figures.plain(axes)

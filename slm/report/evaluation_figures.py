"""Figures of an evaluation: the leaderboard with its intervals, and the reliability diagrams."""

import json
import math
from pathlib import Path
from typing import Any

from slm import figures
from slm.files import read_json
from slm.scoring import calibration
from slm.tasks import published
from slm.workdir import read_config, read_result

_COLUMNS = 3  # panels of the reliability figure beside each other


def leaderboard(path: Path, workdir: Path) -> dict:
    """Each task's headline metric with its 95% interval, baseline, majority class and published models; writes
    `path`.png and .svg."""
    lines, report = read_result(workdir) or {}, read_json(workdir / "report.json")
    tasks = {name: task for name, task in report["tasks"].items() if lines.get(name)}
    if not tasks:
        raise figures.NothingToPlot(f"{workdir} holds no results of tasks: evaluate again")
    models = published.rows() if read_config(workdir).get("benchmark") == "jmed_llm" else {}
    others = {model: {name: metrics[name][task["headline"]] for name, task in tasks.items()
                      if task["headline"] in metrics.get(name, {})} for model, metrics in models.items()}
    figure = figures.blank(9.2, 1.5 + 0.66 * len(tasks))
    axes = figure.add_subplot()
    labels = []
    for y, (name, task) in enumerate(reversed(tasks.items())):
        line, headline = lines[name], task["headline"]
        value = line["metrics"][headline]
        if y % 2:
            axes.axhspan(y - 0.5, y + 0.5, color="#f4f4f4", linewidth=0, zorder=0)
        for index, metrics in enumerate(others.values()):
            if name in metrics:
                axes.plot(metrics[name], y - 0.25, figures.MARKERS[index + 1], color=figures.GREY, markersize=5.5,
                          markerfacecolor="white", zorder=2)
        for method, shape, colour in (("baseline", "|", figures.COLOURS[4]), ("majority", "x", figures.COLOURS[2])):
            if line[method].get(headline) is not None:
                axes.plot(line[method][headline], y, shape, color=colour, markersize=9 if shape == "|" else 6,
                          markeredgewidth=2, zorder=3)
        if value["low"] is not None:
            axes.plot([value["low"], value["high"]], [y + 0.25] * 2, color=figures.COLOURS[0], linewidth=2.4,
                      solid_capstyle="butt", zorder=4)
        if value["value"] is not None:
            axes.plot(value["value"], y + 0.25, "o", color=figures.COLOURS[0], markersize=7, markeredgecolor="white",
                      zorder=5)
        seeds = f" × {line['seeds']} models" if line["seeds"] > 1 else ""
        labels.append(f"{name}\n{headline}, {line['n']} rows{seeds}")
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(-0.5, len(labels) - 0.5)
    axes.axvline(0, color=figures.GREY, linewidth=0.8, zorder=1)
    axes.set_xlabel("Headline metric of each task (no unit; 1 is best)", fontsize=9)
    axes.set_title(f"{report['model']}, {report['protocol']}", fontsize=10)
    figures.plain(axes)
    _leaderboard_legend(axes, any(lines[name]["baseline"] for name in tasks),
                        [model for model, metrics in others.items() if metrics])
    return {"files": figures.save(figure, path), "workdir": str(workdir), "model": report["model"],
            "tasks": {name: lines[name]["metrics"][task["headline"]] for name, task in tasks.items()}}


def _leaderboard_legend(axes: Any, baseline: bool, others: list[str]) -> None:
    from matplotlib.lines import Line2D

    def entry(shape: str, colour: str, label: str, **more: Any) -> Line2D:
        return Line2D([], [], marker=shape, color=colour, label=label, markersize=6, **more)
    entries = [entry("o", figures.COLOURS[0], "this model, 95% interval", linewidth=2.4),
               *[entry("|", figures.COLOURS[4], "baseline, same rows", linewidth=0, markeredgewidth=2)] * baseline,
               entry("x", figures.COLOURS[2], "majority: the most common answer", linewidth=0, markeredgewidth=2)]
    entries += [entry(figures.MARKERS[index + 1], figures.GREY, f"{model} (P0, published)", linewidth=0,
                      markerfacecolor="white") for index, model in enumerate(others)]
    axes.legend(handles=entries, frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1.01, 1))


def reliability(path: Path, workdir: Path) -> dict:
    """A panel per task: accuracy of the chosen letter over its probability; writes `path`.png and .svg."""
    report = read_json(workdir / "report.json")
    answers = {name: pairs for name in report["tasks"] if (pairs := _chosen(workdir, name))}
    if not answers:
        raise figures.NothingToPlot(f"{workdir} holds no probabilities of letters: evaluate with "
                                    "--config.choice=likelihood")
    columns = min(_COLUMNS, len(answers))
    rows = -(-len(answers) // columns)
    figure = figures.blank(3.3 * columns, 3.1 * rows + 0.5)
    figure.get_layout_engine().set(wspace=0.08)
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    tasks = {}
    for index, (axes, (name, pairs)) in enumerate(zip(panels.flat, answers.items(), strict=False)):
        confidence, correct = zip(*pairs)
        calibration.plot(axes, calibration.reliability(confidence, correct))
        tasks[name] = {"answers": len(pairs), "ece": calibration.ece(confidence, correct)}
        axes.set_title(f"{name}\n{len(pairs):,} answers, ECE {tasks[name]['ece']:.3f}", fontsize=9)
        axes.tick_params(labelbottom=index + columns >= len(answers))
    for axes in panels.flat[len(answers):]:
        axes.axis("off")
    figure.suptitle(f"Reliability: {report['model']}, {report['protocol']}", fontsize=10)
    figure.supxlabel("Probability of the chosen letter", fontsize=9)
    figure.supylabel("Share", fontsize=9)
    handles, labels = panels.flat[0].get_legend_handles_labels()
    if len(answers) < panels.size:
        panels.flat[-1].legend(handles, labels, frameon=False, fontsize=8, loc="center")
    else:
        panels.flat[0].legend(handles, labels, frameon=False, fontsize=7, loc="upper left")
    return {"files": figures.save(figure, path), "workdir": str(workdir), "tasks": tasks}


def _chosen(workdir: Path, task: str) -> list[tuple[float, bool]]:
    """(probability of the most likely letter, whether it is right) of every seed's single-letter answers."""
    pairs = []
    for path in sorted((workdir / "answers").glob(f"{task}-seed-*.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines()[1:]:
            answer = json.loads(line)
            scores, gold = answer["log_likelihoods"], answer["gold"]
            if scores and len(gold) == 1 and gold[0] in scores:
                best = max(scores, key=scores.get)
                confidence = 1 / sum(math.exp(value - scores[best]) for value in scores.values())
                pairs.append((confidence, best == gold[0]))
    return pairs

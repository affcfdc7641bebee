"""The decoder, drawn from a preset: blocks, arrows and sizes, which are the shapes of its parameters."""

import functools
import math
from pathlib import Path
from typing import Any

from slm import figures
from slm.model.presets import ModelConfig, parameter_count

_FILLS = {"table": "#cce0f0", "attention": "#d5edf7", "mlp": "#f3ecc4", "norm": "#e8e8e8", "block": "#f7f7f7",
          "plain": "#ffffff"}


def draw(path: Path, model: ModelConfig) -> dict:
    """Writes `path`.png and .svg; returns what of them is worth telling."""
    return {"files": figures.save(figure(model), path), "preset": model.preset, "parameters": parameter_count(model)}


def parts(model: ModelConfig) -> dict[str, int]:
    """Parameters of each part, all layers together; they add up to `parameter_count`."""
    import jax

    from slm.model import decoder
    shapes = jax.eval_shape(functools.partial(decoder.initialize, model), jax.random.key(0))

    def size(tree: Any) -> int:
        return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))
    blocks = shapes["blocks"]
    return {"embedding": size(shapes["embedding"]), "attention": size(blocks["attention"]), "mlp": size(blocks["mlp"]),
            "norms": size(blocks["attention_norm"]) + size(blocks["mlp_norm"]) + size(shapes["final_norm"]),
            "head": size(shapes["head"])}


def figure(model: ModelConfig) -> Any:
    """Three columns, all read from below: the decoder, one of its blocks, and what is inside that."""
    canvas = figures.blank(11.4, 7.4)
    axes = canvas.add_subplot()
    axes.set(xlim=(0, 11.4), ylim=(0, 7.4), aspect="equal")
    axes.axis("off")
    shares = parts(model)
    total = parameter_count(model)
    axes.text(0.15, 7.15, f"{model.preset}: {total:,} parameters", fontsize=13, va="center")
    about = (f"{model.layers} blocks of width {model.width:,}, vocabulary {model.vocabulary_size:,}, context "
             f"{model.context:,} tokens, RoPE with θ = {model.rope_theta:,.0f}, computed in {model.compute_dtype}")
    axes.text(0.15, 6.83, about, fontsize=9, color=figures.DARK, va="center")
    _decoder(axes, model, shares, total)
    _block(axes, model)
    _attention(axes, model, shares)
    _mlp(axes, model, shares)
    return canvas


def _decoder(axes: Any, model: ModelConfig, shares: dict[str, int], total: int) -> None:
    width, middle = 2.5, 1.45
    vocabulary, features = f"{model.vocabulary_size:,}", f"{model.width:,}"

    def share(name: str) -> str:
        return f"{_short(shares[name])}, {shares[name] / total:.0%}"
    inside = shares["attention"] + shares["mlp"] + 2 * model.layers * model.width
    rows = [("plain", 0.5, "Token ids"),
            ("table", 0.85, f"Embedding\n{vocabulary} × {features}\n{share('embedding')}"),
            ("block", 1.15, f"{model.layers} × block\neach {_short(inside // model.layers)}\n"
                            f"together {_short(inside)}, {inside / total:.0%}"),
            ("norm", 0.5, f"RMSNorm, {features}"),
            ("table", 0.85, f"Head, not tied\n{features} × {vocabulary}\n{share('head')}"),
            ("plain", 0.5, "Scores of the next token")]
    gap = 0.33
    bottom = 0.25
    for index, (kind, height, text) in enumerate(rows):
        _box(axes, middle, bottom + height / 2, width, height, text, kind)
        if kind == "block":
            for corner in (bottom, bottom + height):  # the next column shows it larger
                axes.plot([middle + width / 2, 3.45], [corner, 0.25 if corner == bottom else 6.45], color=figures.GREY,
                          linewidth=0.8, linestyle=":")
        bottom += height
        if index < len(rows) - 1:
            _arrow(axes, (middle, bottom), (middle, bottom + gap))
        bottom += gap


def _block(axes: Any, model: ModelConfig) -> None:
    middle, width, skip = 5.2, 2.0, 3.8
    _frame(axes, 3.45, 0.25, 3.05, 6.2, f"Block, {model.layers} times")
    norm, kind = f"RMSNorm, {model.width:,}", "two matrices" if model.mlp == "silu" else "SwiGLU"
    attention = f"Grouped-query\nattention\n{model.query_heads} query heads on {model.kv_heads}"
    low = 0.45
    for upper, (fill, text) in ((False, ("attention", attention)), (True, ("mlp", f"MLP\n{kind}"))):
        start = low + 2.8 * upper
        _box(axes, middle, start + 0.65, width, 0.4, norm, "norm")
        _box(axes, middle, start + 1.5, width, 0.75, text, fill)
        _arrow(axes, (middle, start + 0.85), (middle, start + 1.12))
        _arrow(axes, (middle, start + 1.88), (middle, start + 2.22))
        axes.text(middle, start + 2.35, "+", ha="center", va="center", fontsize=11,
                  bbox={"boxstyle": "circle,pad=0.12", "facecolor": "white", "edgecolor": figures.DARK})
        _arrow(axes, (middle, start - 0.31 * upper), (middle, start + 0.45))
        # The residual stream goes past.
        axes.plot([middle, skip, skip], [start + 0.2, start + 0.2, start + 2.35], color=figures.DARK, linewidth=1.2)
        _arrow(axes, (skip, start + 2.35), (middle - 0.17, start + 2.35))
    _arrow(axes, (middle, low + 5.29), (middle, low + 5.6))
    axes.text(skip - 0.13, 3.25, "residual stream", rotation=90, ha="center", va="center", fontsize=8)
    for y, low, high in ((1.95, 0.25, 4.0), (4.75, 4.25, 6.45)):
        for side, corner in ((-0.375, low), (0.375, high)):
            axes.plot([middle + width / 2, 7.0], [y + side, corner], color=figures.GREY, linewidth=0.8, linestyle=":")


def _attention(axes: Any, model: ModelConfig, shares: dict[str, int]) -> None:
    queries, keys = model.query_heads * model.head_size, model.kv_heads * model.head_size
    _frame(axes, 7.0, 0.25, 4.2, 3.75, f"Attention: {_short(shares['attention'] // model.layers)} a block")
    for x, name, out in ((7.75, "Query", queries), (9.1, "Key", keys), (10.45, "Value", keys)):
        _box(axes, x, 0.72, 1.2, 0.5, f"{name}\n{model.width:,} × {out:,}", "attention")
    for x in (7.75, 9.1):
        _arrow(axes, (x, 0.97), (x, 1.17))
        _box(axes, x, 1.32, 1.2, 0.3, "RoPE", "norm")
        _arrow(axes, (x, 1.47), (x, 1.69))
    _arrow(axes, (10.45, 0.97), (10.45, 1.69))
    # Heads: each query head stands over the key and value head that it reads.
    left, room = 7.2, 3.8
    step, group = room / model.query_heads, model.query_heads // model.kv_heads
    gap = min(0.04, 0.2 * step)
    for head in range(model.query_heads):
        _cell(axes, left + head * step, 2.12, step - gap, 0.16, figures.COLOURS[0])
    for head in range(model.kv_heads):
        _cell(axes, left + head * group * step, 1.74, group * step - gap, 0.16, figures.COLOURS[3])
    for y, number, kind in ((2.37, model.query_heads, "query"), (1.99, model.kv_heads, "key and value")):
        axes.text(left, y, f"{number} {kind} head{'s' * (number > 1)} of {model.head_size}", fontsize=7.5, va="center")
    _arrow(axes, (9.1, 2.34), (9.1, 2.48))
    _box(axes, 9.1, 2.64, 3.9, 0.32, f"softmax(q · k / √{model.head_size}) · v, causal, within a document",
         "plain")
    _arrow(axes, (9.1, 2.8), (9.1, 2.98))
    _box(axes, 9.1, 3.23, 1.6, 0.5, f"Output\n{queries:,} × {model.width:,}", "attention")
    _arrow(axes, (9.1, 3.48), (9.1, 3.66))


def _mlp(axes: Any, model: ModelConfig, shares: dict[str, int]) -> None:
    _frame(axes, 7.0, 4.25, 4.2, 2.2, f"MLP: {_short(shares['mlp'] // model.layers)} a block")
    up, down = f"{model.width:,} × {model.mlp_width:,}", f"{model.mlp_width:,} × {model.width:,}"
    if model.mlp == "silu":
        _box(axes, 9.1, 4.65, 2.2, 0.42, f"Up, {up}", "mlp")
        _arrow(axes, (9.1, 4.86), (9.1, 5.04))
        _box(axes, 9.1, 5.19, 1.2, 0.3, "SiLU", "norm")
    else:
        for x, name in ((8.05, "Gate"), (10.15, "Up")):
            _box(axes, x, 4.65, 1.85, 0.36, f"{name}, {up}", "mlp")
        _arrow(axes, (8.05, 4.83), (8.05, 5.04))
        _box(axes, 8.05, 5.19, 0.9, 0.3, "SiLU", "norm")
        axes.text(9.1, 5.19, "×", ha="center", va="center", fontsize=10,
                  bbox={"boxstyle": "circle,pad=0.1", "facecolor": "white", "edgecolor": figures.DARK})
        _arrow(axes, (8.5, 5.19), (8.95, 5.19))
        axes.plot([10.15, 10.15], [4.83, 5.19], color=figures.DARK, linewidth=1.2)
        _arrow(axes, (10.15, 5.19), (9.25, 5.19))
    _arrow(axes, (9.1, 5.34), (9.1, 5.52))
    _box(axes, 9.1, 5.73, 2.2, 0.42, f"Down, {down}", "mlp")
    _arrow(axes, (9.1, 5.94), (9.1, 6.12))


def _short(number: int) -> str:
    """1.23 B, 45.6 M, 789 k."""
    for size, letter in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g} {letter}"
    return str(number)


def _box(axes: Any, x: float, y: float, width: float, height: float, text: str, kind: str) -> None:
    """A box around (x, y), and its text."""
    from matplotlib.patches import FancyBboxPatch
    axes.add_patch(FancyBboxPatch((x - width / 2, y - height / 2), width, height, facecolor=_FILLS[kind],
                                  boxstyle="round,pad=0,rounding_size=0.06", edgecolor=figures.DARK, linewidth=1))
    axes.text(x, y, text, ha="center", va="center", fontsize=8, linespacing=1.25)


def _frame(axes: Any, x: float, y: float, width: float, height: float, title: str) -> None:
    from matplotlib.patches import FancyBboxPatch
    axes.add_patch(FancyBboxPatch((x, y), width, height, boxstyle="round,pad=0,rounding_size=0.1", zorder=0.5,
                                  facecolor=_FILLS["block"], edgecolor=figures.GREY, linewidth=1))
    axes.text(x + 0.12, y + height - 0.16, title, fontsize=9, va="center")


def _cell(axes: Any, x: float, y: float, width: float, height: float, colour: str) -> None:
    from matplotlib.patches import Rectangle
    axes.add_patch(Rectangle((x, y), width, height, facecolor=colour, edgecolor="none"))


def _arrow(axes: Any, start: tuple[float, float], end: tuple[float, float]) -> None:
    axes.annotate("", end, start, arrowprops={"arrowstyle": "-|>", "color": figures.DARK, "linewidth": 1.2,
                                              "shrinkA": 0, "shrinkB": 0, "mutation_scale": 9})

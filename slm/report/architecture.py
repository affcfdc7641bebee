"""The decoder drawn from a preset; sizes are the shapes of its parameters."""

import functools
from pathlib import Path
from typing import Any

from slm import figures
from slm.model.presets import ModelConfig, parameter_count

_FILLS = {"table": "#cce0f0", "attention": "#d5edf7", "mlp": "#f3ecc4", "norm": "#e8e8e8", "block": "#f7f7f7",
          "plain": "#ffffff"}
_GAP = 0.33  # between boxes


def draw(path: Path, model_config: ModelConfig) -> dict:
    """Writes `path`.png and .svg; returns their paths, the preset and its number of parameters."""
    return {"files": figures.save(figure(model_config), path), "preset": model_config.preset,
            "parameters": parameter_count(model_config)}


def parts(model_config: ModelConfig) -> dict[str, int]:
    """Parameters of each part, all layers together; they add up to `parameter_count`."""
    import jax

    from slm.model import decoder
    shapes = jax.eval_shape(functools.partial(decoder.initialize, model_config), jax.random.key(0))
    shapes |= shapes.pop("blocks")
    return {name: sum(leaf.size for leaf in jax.tree.leaves(tree)) for name, tree in shapes.items()}


def figure(model_config: ModelConfig) -> Any:
    """Two columns, read from the bottom up: the decoder, and one of its blocks."""
    canvas = figures.blank(8.4, 7.4)
    axes = canvas.add_subplot()
    axes.set(xlim=(0, 8.4), ylim=(0, 7.4), aspect="equal")
    axes.axis("off")
    c, counts = model_config, parts(model_config)
    total = sum(counts.values())
    axes.text(0.15, 7.15, f"{c.preset}: {total:,} parameters", fontsize=13, va="center")
    axes.text(0.15, 6.83, f"{c.layers} blocks of width {c.width:,}, vocabulary {c.vocabulary_size:,}, context "
              f"{c.context:,} tokens, RoPE with θ = {c.rope_theta:,.0f}, computed in {c.compute_dtype}",
              fontsize=8, color=figures.DARK, va="center")
    in_blocks = counts["attention"] + counts["mlp"] + 2 * c.layers * c.width
    bottoms = _column(axes, 1.45, 0.25, 2.5, [
        ("plain", 0.5, "Token ids"),
        ("table", 0.85, f"Embedding\n{c.vocabulary_size:,} × {c.width:,}\n{_share(counts['embedding'], total)}"),
        ("block", 1.15,
         f"{c.layers} × block\neach {_short(in_blocks // c.layers)}\ntogether {_share(in_blocks, total)}"),
        ("norm", 0.5, f"RMSNorm, {c.width:,}"),
        ("table", 0.85, f"Head, not tied\n{c.width:,} × {c.vocabulary_size:,}\n{_share(counts['head'], total)}"),
        ("plain", 0.5, "Logits of the next token")])
    for y in ((bottoms[2], 0.25), (bottoms[2] + 1.15, 6.45)):  # the second column enlarges a block
        axes.plot([2.7, 3.45], y, color=figures.GREY, linewidth=0.8, linestyle=":")
    _box(axes, 5.8, 3.35, 4.7, 6.2, "", "block")
    axes.text(3.6, 6.25, f"Block, {c.layers} times", fontsize=9, va="center")
    queries, keys = c.query_heads * c.head_size, c.kv_heads * c.head_size
    mlp = "SiLU(up)" if c.mlp == "silu" else "SwiGLU: SiLU(gate) × up"
    bottoms = _column(axes, 6.0, 0.65, 3.9, [
        ("norm", 0.4, f"RMSNorm, {c.width:,}"),
        ("attention", 1.3, f"Grouped-query attention, {_short(counts['attention'] // c.layers)}\n"
         f"{c.query_heads} query, {c.kv_heads} key and value heads of {c.head_size}\nquery {c.width:,} × {queries:,}, "
         f"key and value {c.width:,} × {keys:,}\nRoPE, softmax, causal within a document\n"
         f"output {queries:,} × {c.width:,}"),
        ("plain", 0.3, "+"), ("norm", 0.4, f"RMSNorm, {c.width:,}"),
        ("mlp", 0.95, f"MLP of {_short(counts['mlp'] // c.layers)}\n{mlp}, {c.width:,} × {c.mlp_width:,}\n"
         f"down {c.mlp_width:,} × {c.width:,}"),
        ("plain", 0.3, "+")])
    _arrow(axes, (6.0, 0.35), (6.0, 0.65))
    for norm, plus in ((0, 2), (3, 5)):  # the residual stream bypasses norm and sublayer
        low, high = bottoms[norm] - _GAP / 2, bottoms[plus] + 0.15
        axes.plot([6.0, 3.8, 3.8], [low, low, high], color=figures.DARK, linewidth=1.2)
        _arrow(axes, (3.8, high), (4.05, high))
    axes.text(3.65, 3.25, "residual stream", rotation=90, ha="center", va="center", fontsize=8)
    return canvas


def _column(axes: Any, x: float, bottom: float, width: float, rows: list[tuple[str, float, str]]) -> list[float]:
    """Boxes (fill, height, text) from the bottom up, joined by arrows; returns their lower edges."""
    bottoms = []
    for index, (fill, height, text) in enumerate(rows):
        if index:
            _arrow(axes, (x, bottom - _GAP), (x, bottom))
        _box(axes, x, bottom + height / 2, width, height, text, fill)
        bottoms.append(bottom)
        bottom += height + _GAP
    return bottoms


def _share(number: int, total: int) -> str:
    return f"{_short(number)}, {number / total:.0%}"


def _short(number: int) -> str:
    """1.23 B, 45.6 M, 789 k."""
    size, letter = next((unit for unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")) if number >= unit[0]), (1, ""))
    return f"{number / size:.3g} {letter}"


def _box(axes: Any, x: float, y: float, width: float, height: float, text: str, fill: str) -> None:
    from matplotlib.patches import FancyBboxPatch
    axes.add_patch(FancyBboxPatch((x - width / 2, y - height / 2), width, height, facecolor=_FILLS[fill],
                                  boxstyle="round,pad=0,rounding_size=0.06", edgecolor=figures.DARK, linewidth=1))
    axes.text(x, y, text, ha="center", va="center", fontsize=8, linespacing=1.25)


def _arrow(axes: Any, start: tuple[float, float], end: tuple[float, float]) -> None:
    axes.annotate("", end, start, arrowprops={"arrowstyle": "-|>", "color": figures.DARK, "linewidth": 1.2,
                                              "shrinkA": 0, "shrinkB": 0, "mutation_scale": 9})

"""Token embeddings of words of five kinds, by t-SNE and UMAP, and how often neighbours are of the same kind.

Rows of the embedding table are normalised to length 1, so that Euclidean distance orders words as the cosine does.
"""

import csv
import functools
import glob
import random
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from slm import checkpoint, figures, sample
from slm.corpus import lexicon
from slm.files import written_aside
from slm.text.normalize import normalize
from slm.text.tokenizer import Tokenizer, load_tokenizer
from slm.workdir import read_config

KINDS = ("disease", "drug", "examination", "body part", "other")
PERPLEXITY, UMAP_NEIGHBOURS = 15, 15
NEIGHBOURS = 10  # of the reported share, in the embedding space itself
_COLOURS = dict(zip(KINDS, ("#ee6677", "#4477aa", "#228833", "#aa3377", "#aaaaaa")))
_MARKERS = dict(zip(KINDS, ("o", "s", "^", "D", "X")))


def draw(path: Path, name: str, lexicons: str, most: int, labels: int, seed: int) -> dict:
    """Writes `path`.png, .svg and .csv (token, word, kind, coordinates); returns and prints the shares of `same_kind`.

    Args:
      name: a checkpoint, as `checkpoint.resolve` takes it.
      lexicons: where the words' kinds come from, as `lexicon.load` reads them; empty: those of the tokenizer's
        training, as far as they are on this machine.
      most: words per kind.
      labels: words written beside their points in each panel; as many as fit.
    """
    workdir, step = checkpoint.resolve(name)
    table = embedding(workdir, step)
    tokenizer = load_tokenizer(workdir / "tokenizer")
    words = choose(tokenizer, lexicons or _lexicons(workdir), most, seed)
    if len(words) < 2 * len(KINDS):
        raise figures.NothingToPlot(f"only {len(words)} words of the lexicons are tokens of {workdir}: name other "
                                    "lexicons with --config.lexicons=FILE[,FILE]")
    kinds = [kind for _, _, kind in words]
    points = unit_rows(table[[index for index, _, _ in words]])
    shares = same_kind(points, kinds)
    panels = _tsne(points, seed) | _umap(points, seed)
    files = _figure(path, workdir, words, panels, shares, labels)
    print(f"embedding: {shares['same_kind']:.1%} of the {shares['neighbours']} nearest words are of the same kind, "
          f"{shares['chance']:.1%} by chance; " + ", ".join(
              f"{kind} {share['same_kind']:.1%} ({share['words']} words, chance {share['chance']:.1%})"
              for kind, share in shares["by_kind"].items()))
    return {"files": [*files, _table(path, words, panels)], "workdir": str(workdir), **shares,
            "panels": list(panels), "seed": seed}


def choose(tokenizer: Tokenizer, lexicons: str, most: int, seed: int) -> list[tuple[int, str, str]]:
    """(token, word, kind) of words that are a single token: first the project's own terms, then those of the lexicons
    in their order, so the most common; as "other", its symptoms and a sample of Japanese words in no lexicon."""
    ids = {word: index for index in range(len(tokenizer)) if not tokenizer.is_special(index)
           and not tokenizer.is_byte(index) and (word := tokenizer.decode([index]))}
    known: dict[str, str] = {}
    for kind, surfaces in sample.terms().items():
        name = kind.replace("_", " ")
        known |= {word: name if name in KINDS else "other" for word in map(normalize, surfaces) if word not in known}
    entries = lexicon.load(lexicons) if lexicons else []
    known |= {entry.surface: entry.kind for entry in entries if entry.kind in KINDS and entry.surface not in known}
    listed = {*known, *(entry.surface for entry in entries)}
    rest = [word for word in ids if re.fullmatch(r"[一-龠々ァ-ヴー]{2,}", word) and word not in listed]
    random.Random(seed).shuffle(rest)
    known |= dict.fromkeys(rest, "other")
    chosen: dict[str, list[tuple[int, str, str]]] = {kind: [] for kind in KINDS}
    for word, kind in known.items():
        if word in ids and len(chosen[kind]) < most and tokenizer.encode(word) == [ids[word]]:
            chosen[kind].append((ids[word], word, kind))
    return [word for words in chosen.values() for word in words]


def _lexicons(workdir: Path) -> str:
    """The lexicons that the tokenizer was trained with, if the workdir records them and they still exist."""
    names = read_config(workdir).get("tokenizer", {}).get("lexicons", "")
    if names in ("", "none"):
        return ""
    missing = [name for name in names.split(",") if not glob.glob(name.partition("@")[0])]
    if missing:
        print(f"embedding: {', '.join(missing)} no longer exists; name the lexicons with "
              "--config.lexicons=FILE[,FILE]",
              file=sys.stderr)
    return ",".join(name for name in names.split(",") if name not in missing)


def embedding(workdir: Path, step: int | None) -> np.ndarray:
    """The embedding table [V, D] in float32; nothing else of the checkpoint is read."""
    import jax

    from slm.model import decoder
    model = checkpoint.read_model(workdir)
    shapes = jax.eval_shape(functools.partial(decoder.initialize, model), jax.random.key(0))
    params = checkpoint.read_params(workdir, step, {"embedding": shapes["embedding"]})
    return np.asarray(params["embedding"], np.float32)


def unit_rows(rows: np.ndarray) -> np.ndarray:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)


def same_kind(points: np.ndarray, kinds: Sequence[str], neighbours: int = NEIGHBOURS) -> dict:
    """The share of each word's nearest neighbours that are of its kind, against chance.

    Args:
      points: [words, D], rows of length 1.

    Returns:
      {neighbours, same_kind, chance, by_kind: {kind: {words, same_kind, chance}}}; shares, means over words.
    """
    names = np.array(kinds)
    neighbours = min(neighbours, len(names) - 1)
    likeness = points @ points.T
    np.fill_diagonal(likeness, -np.inf)
    nearest = np.argsort(-likeness, axis=1, kind="stable")[:, :neighbours]
    shares = (names[nearest] == names[:, None]).mean(axis=1)
    chances = np.array([(names == name).sum() - 1 for name in names]) / (len(names) - 1)
    return {"neighbours": neighbours, "same_kind": float(shares.mean()), "chance": float(chances.mean()),
            "by_kind": {kind: {"words": int(of_kind.sum()), "same_kind": float(shares[of_kind].mean()),
                               "chance": float(chances[of_kind].mean())}
                        for kind in KINDS if (of_kind := names == kind).any()}}


def _tsne(points: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """{title: coordinates [words, 2]}, as of `_umap`."""
    try:
        from sklearn.manifold import TSNE
        from threadpoolctl import threadpool_limits
    except ImportError as error:
        raise RuntimeError(f"t-SNE needs {error.name}: pip install 'slm[figures]'") from None
    perplexity: float = PERPLEXITY
    if len(points) <= 3 * PERPLEXITY:
        perplexity = (len(points) - 1) / 3
        print(f"embedding: for only {len(points)} words the perplexity is {perplexity:.1f} instead of {PERPLEXITY}",
              file=sys.stderr)
    with threadpool_limits(1):  # several threads would sum in any order
        flat = TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(points)
    return {f"t-SNE, perplexity {perplexity:.3g}": flat}


def _umap(points: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    try:
        import umap
    except ImportError:
        print("embedding: UMAP is left out, for umap-learn is missing: pip install 'slm[figures]'", file=sys.stderr)
        return {}
    neighbours = min(UMAP_NEIGHBOURS, len(points) - 1)
    mapper = umap.UMAP(n_neighbors=neighbours, random_state=seed, n_jobs=1)  # a seed forces one thread anyway
    return {f"UMAP, {neighbours} neighbours": mapper.fit_transform(points)}


def _figure(path: Path, workdir: Path, words: Sequence[tuple[int, str, str]], panels: dict[str, np.ndarray],
            shares: dict, labels: int) -> list[str]:
    figure = figures.blank(7.2 * len(panels), 7.4)
    all_axes = figure.subplots(1, len(panels), squeeze=False)[0]
    kinds = np.array([kind for _, _, kind in words])
    for axes, (title, flat) in zip(all_axes, panels.items()):
        name = title.partition(",")[0]
        for kind in reversed(KINDS):  # "other" at the bottom
            of_kind = kinds == kind
            axes.scatter(*flat[of_kind].T, s=16, marker=_MARKERS[kind], color=_COLOURS[kind], linewidth=0.3,
                         edgecolor="white", label=f"{kind} ({of_kind.sum()})", alpha=0.5 if kind == "other" else 0.9)
        axes.set_title(title, fontsize=10)
        axes.set(xticks=[], yticks=[])  # neither method has units
        axes.set_xlabel(f"{name} 1 (no unit)", fontsize=8)
        axes.set_ylabel(f"{name} 2 (no unit)", fontsize=8)
    handles, names = all_axes[0].get_legend_handles_labels()
    figure.legend(handles[::-1], names[::-1], loc="outside lower center", ncols=len(KINDS), frameon=False, fontsize=9,
                  markerscale=1.6)
    figure.suptitle(f"Token embeddings of {workdir.name}: {shares['same_kind']:.0%} of the {shares['neighbours']} "
                    f"nearest are of the same kind, {shares['chance']:.0%} by chance", fontsize=11)
    figure.draw_without_rendering()  # so that the positions of the labels are known
    for axes, flat in zip(all_axes, panels.values()):
        _write_labels(figure, axes, words, flat, labels)
    return figures.save(figure, path)


def _write_labels(figure: Any, axes: Any, words: Sequence[tuple[int, str, str]], flat: np.ndarray,
                  labels: int) -> None:
    """Writes words beside points that are far apart, the kinds in turn, where they cover no other label."""
    from matplotlib import colors
    renderer = figure.canvas.get_renderer()
    frame = axes.get_window_extent(renderer)
    queues = [spread(flat, [i for i, word in enumerate(words) if word[2] == kind]) for kind in KINDS]
    turns = [queue[i] for i in range(max(map(len, queues))) for queue in queues if i < len(queue)]
    taken: list[Any] = []
    for index in turns:
        if len(taken) == labels:
            break
        _, word, kind = words[index]
        note = axes.annotate(word, flat[index], (4, 0), textcoords="offset points", va="center", fontsize=7,
                             color=[part * 0.6 for part in colors.to_rgb(_COLOURS[kind])],
                             bbox={"facecolor": "white", "alpha": 0.7, "pad": 0.2, "linewidth": 0})
        box = note.get_window_extent(renderer).padded(1.5)
        if frame.contains(box.x0, box.y0) and frame.contains(box.x1, box.y1) and not box.count_overlaps(taken):
            taken.append(box)
        else:
            note.remove()


def spread(flat: np.ndarray, candidates: Sequence[int]) -> list[int]:
    """The candidates: the first, then always the one that is farthest from all before it."""
    if not candidates:
        return []
    order, distance = [candidates[0]], np.full(len(candidates), np.inf)
    for _ in candidates[1:]:
        distance = np.minimum(distance, np.linalg.norm(flat[candidates] - flat[order[-1]], axis=1))
        order.append(candidates[int(distance.argmax())])
    return order


def _table(path: Path, words: Sequence[tuple[int, str, str]], panels: dict[str, np.ndarray]) -> str:
    target = path.with_name(f"{path.name}.csv")
    names = [title.partition(",")[0].lower().replace("-", "") for title in panels]
    with written_aside(target) as aside, open(aside, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["token", "word", "kind", *(f"{name}_{axis}" for name in names for axis in "xy")])
        for index, word in enumerate(words):
            writer.writerow([*word, *(f"{value:.4f}" for flat in panels.values() for value in flat[index])])
    return str(target)

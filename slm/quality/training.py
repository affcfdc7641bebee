"""The quality job: labelled or bootstrapped texts → a classifier, and its measures on held-out texts.

A classifier learns whatever separates its two classes. Bootstrapped from reference files against dropped text, that is
largely the origin and topic of a text, not its quality: choose reference text as broad as the corpus, leave out text
that was dropped for other reasons than quality (duplicates), look at the mean score of each source, and read what is
dropped before trusting it. Labels by people who read the texts are worth more.
"""

import dataclasses
import importlib.util
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from slm.quality import labels, scorer
from slm.quality.labels import Example


@dataclasses.dataclass(frozen=True)
class QualityConfig:
    """The quality job. Give `labels`, or `reference` and `poor`."""
    job: str = "quality"
    variant: str = "linear"
    labels: str = ""  # GLOB[,GLOB…] of JSON Lines (plain, gz) with text and label: 1 good, 0 poor
    reference: str = ""  # GLOB[,GLOB…] of documents that are good
    poor: str = ""  # GLOB[,GLOB…] of documents that are poor, such as those that the corpus pipeline dropped
    documents: int = 50_000  # at most, of each class
    held_out_share: float = 0.1  # of the documents, by a hash of the text: for the report
    model: Literal["linear", "transformer"] = "linear"
    threshold: float = 0.5  # the report counts a text with a lower score as dropped
    seed: int = 0
    # Of the transformer, which starts from a pretraining's workdir, or from a tokenizer's folder and random weights.
    checkpoint: str = ""
    tokenizer: str = ""
    preset: str = "laptop"
    epochs: int = 3
    learning_rate: float = 1e-3  # better than 2e-4 for the laptop model and 1,700 labels

    def __post_init__(self):
        for name in ("held_out_share", "threshold"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: give a number between 0 and 1")
        if self.documents < labels.LEAST:
            raise ValueError(f"documents={self.documents}: give at least {labels.LEAST}")
        if self.epochs < 1:
            raise ValueError(f"epochs={self.epochs}: give at least 1")


def run(config: QualityConfig, workdir: Path) -> dict:
    """Trains, writes the classifier into `workdir/classifier`, and returns the report."""
    if importlib.util.find_spec("sklearn") is None:
        raise RuntimeError("training a quality classifier needs scikit-learn: pip install 'scikit-learn>=1.5'")
    started = time.perf_counter()
    training, held_out = _split(_examples(config), config.held_out_share)
    aside = workdir / "classifier.writing"
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    losses = None
    if config.model == "linear":
        from slm.quality import linear
        linear.fit(aside, training, config.seed)
    else:
        from slm.quality import transformer  # late: it loads jax
        losses = transformer.fit(aside, training, checkpoint=config.checkpoint, tokenizer=config.tokenizer,
                                 preset=config.preset, epochs=config.epochs, learning_rate=config.learning_rate,
                                 seed=config.seed)
    scorer.seal(aside, config.model)
    folder = workdir / "classifier"
    shutil.rmtree(folder, ignore_errors=True)
    aside.rename(folder)
    trained = time.perf_counter()

    score = scorer.load(folder)
    texts = [example.text for example in held_out]
    score(texts[:1])  # loads the model
    began = time.perf_counter()
    scores = score(texts)
    speed = sum(len(text.encode()) for text in texts) / 1e6 / (time.perf_counter() - began)
    counts = {f"{'good' if good else 'poor'}_{name}": sum(example.good == good for example in part)
              for good in (True, False) for name, part in (("training", training), ("held_out", held_out))}
    result = {**counts, **measures(held_out, scores, config.threshold), "train_seconds": trained - started,
              "megabytes_per_second": speed, "classifier": str(folder), "fingerprint": score.fingerprint}
    if losses:
        result["stopping_losses"] = losses
    print(f"held out: precision {result['precision']:.4f}, recall {result['recall']:.4f}, F1 {result['f1']:.4f} at "
          f"{config.threshold}, ROC AUC {result['roc_auc']:.4f}; {speed:.2f} MB/s; {folder}", flush=True)
    return result


def measures(held_out: Sequence[Example], scores: np.ndarray, threshold: float) -> dict:
    """How well the scores separate good texts (the positive class) from poor ones."""
    from sklearn import metrics
    good = np.array([example.good for example in held_out])
    kept = scores >= threshold
    right = int(np.sum(good & kept))
    precision = right / max(1, int(kept.sum()))
    recall = right / int(good.sum())
    sources = np.array([example.source for example in held_out])
    return {
        "threshold": threshold, "precision": precision, "recall": recall,
        "f1": 2 * right / int(good.sum() + kept.sum()),
        "roc_auc": float(metrics.roc_auc_score(good, scores)),
        "average_precision": float(metrics.average_precision_score(good, scores)),
        "good_dropped_share": 1 - recall, "poor_dropped_share": float(np.mean(~kept[~good])),
        "good_mean_score_by_source": {source: float(scores[good & (sources == source)].mean())
                                      for source in sorted(set(sources[good].tolist()))}}


def _examples(config: QualityConfig) -> list[Example]:
    bootstrap = bool(config.reference or config.poor)
    if bool(config.labels) == bootstrap or (bootstrap and not (config.reference and config.poor)):
        raise ValueError(f"labels={config.labels!r}, reference={config.reference!r} and poor={config.poor!r}: give "
                         "labels alone, or reference and poor together")
    if config.labels:
        return labels.labelled(config.labels, config.documents)
    return labels.bootstrapped(config.reference, config.poor, config.documents)


def _split(examples: list[Example], held_out_share: float) -> tuple[list[Example], list[Example]]:
    held_out = [example for example in examples if example.fraction(labels.HOLDING_OUT) < held_out_share]
    training = [example for example in examples if example.fraction(labels.HOLDING_OUT) >= held_out_share]
    for name, part in (("held out", held_out), ("left for training", training)):
        good = sum(example.good for example in part)
        if min(good, len(part) - good) < 2:
            raise ValueError(f"held_out_share={held_out_share} of {len(examples)} documents: {good} good and "
                             f"{len(part) - good} poor are {name}, at least 2 of each are needed: give more documents, "
                             "or another share")
    return training, held_out

"""J-ClinicalBench, its findings (data/benchmarks/CLU/NER_Disease): what a radiology report says of each finding.

Sentences of radiology reports (rr) and case reports (cr), with diseases, symptoms and findings, each positive,
suspicious, negative or general; other, and unspecified (mostly TNM stages), occur too. The test is sentences of other
radiology reports, many of which repeat training rows. So a protocol says what was trained on:
P0  nothing of it.
P1  the training files as they are: comparable with others.
P2  without the sentences that hold a test sentence, and without the reports that hold a test report.
"""

import dataclasses
import functools
import itertools
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

from slm.tasks import annotated, split
from slm.tasks.annotated import AnnotatedText
from slm.tasks.benchmark import Benchmark, Protocol, Provenance
from slm.tasks.task import Item, Task
from slm.text.spans import Span

FOLDER = "data/benchmarks/CLU/NER_Disease"
TRAINING, TEST = ("train_rr", "train_cr"), ("test_rr",)
LABELS = {"d_positive": "positive", "d_suspicious": "suspicious", "d_negative": "negative", "d_general": "general",
          "d_other": "other", "d_": "unspecified"}

_TASK = "findings"
_FIX = "copy it again from a checkout of J-ClinicalBench"


@dataclasses.dataclass(frozen=True)
class JClinicalBenchConfig:
    """data_dir: a checkout of the benchmark's repository. It states no licence, so it is not downloaded."""
    data_dir: str = ""


def test(data_dir: Path) -> Task:
    return _task(_read(data_dir, TEST))


@functools.cache  # the search for leaks takes a second, and is asked for by training and baselines
def training(data_dir: Path, protocol: Protocol) -> Task:
    """The task with the rows that a protocol allows to train on."""
    if protocol not in ("P1", "P2"):
        raise ValueError(f"J-ClinicalBench has training rows under the protocols P1 and P2, not {protocol}: choose one "
                         "of them")
    texts = _read(data_dir, TRAINING)
    if protocol == "P2":
        sentences, documents = leaks(texts, _read(data_dir, TEST))
        texts = [text for text in texts if text.id not in sentences and text.document not in documents]
    return _task(texts)


def leaks(texts: Sequence[AnnotatedText], tests: Sequence[AnnotatedText]) -> tuple[set[str], set[str]]:
    """(ids of the texts that hold a test sentence, documents that hold a test document)."""
    def held(named: Iterable[tuple[str, str]], scored: Iterable[tuple[str, str]]) -> set[str]:
        return {name for name, _, _ in split.leaks(named, {_TASK: [text for _, text in scored]})}

    def documents(rows: Sequence[AnnotatedText]) -> list[tuple[str, str]]:
        whole: dict[str, str] = defaultdict(str)
        for row in rows:
            whole[row.document] += row.text
        return list(whole.items())

    def sentences(rows: Sequence[AnnotatedText]) -> list[tuple[str, str]]:
        return [(row.id, row.text) for row in rows]

    return held(sentences(texts), sentences(tests)), held(documents(texts), documents(tests))


def _task(texts: Iterable[AnnotatedText]) -> Task:
    return annotated.task(_TASK, [annotated.item(text) for text in texts], "none stated: evaluation only")


def _read(data_dir: Path, names: Iterable[str]) -> list[AnnotatedText]:
    return list(itertools.chain.from_iterable(_file(data_dir, name) for name in names))


@functools.cache
def _file(data_dir: Path, name: str) -> list[AnnotatedText]:
    """The rows of a file; the numbers of its documents are its own."""
    path = data_dir / FOLDER / f"{name}.json"
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing: {_FIX}, and give its folder as --config.j_clinicalbench.data_dir")
    texts = []
    for index, (where, row) in enumerate(annotated.json_rows(path)):
        if not _fits(row):
            raise ValueError(f'{where} is no row of J-ClinicalBench, {{"ID": [document, sentence], "text": …, '
                             f'"entities": [{{"span": [start, end], "type": …}}]}}, of the types {", ".join(LABELS)}: '
                             f'{_FIX}')
        entities = (Span(entity["span"][0], entity["span"][1], LABELS[entity["type"]]) for entity in row["entities"])
        texts.append(AnnotatedText(f"{name}:{index}", row["text"], annotated.ordered(where, row["text"], entities),
                                   f"{name}-{row['ID'][0]}"))
    return texts


def _fits(row: dict[str, Any]) -> bool:
    def are_numbers(pair: Any) -> bool:
        return isinstance(pair, list) and [type(number) for number in pair] == [int, int]

    entities = row.get("entities")
    return bool(isinstance(row.get("text"), str) and row["text"] and are_numbers(row.get("ID"))
                and isinstance(entities, list)
                and all(isinstance(entity, dict) and are_numbers(entity.get("span"))
                        and isinstance(entity.get("type"), str) and entity["type"] in LABELS for entity in entities))


class JClinicalBench(Benchmark):
    """Its findings as a benchmark; a training is scored on the test rows under every protocol."""
    name, settings_type, settings_default = "j_clinicalbench", JClinicalBenchConfig, JClinicalBenchConfig()
    has_protocols = True

    def tasks(self, settings: JClinicalBenchConfig, provenance: Provenance, folds: Collection[int]) -> dict[str, Task]:
        return {_TASK: test(_folder(settings))}

    def training(self, settings: JClinicalBenchConfig, task: Task, provenance: Provenance,
                 fold: int | None = None) -> Sequence[Item]:
        return () if provenance.protocol == "P0" else training(_folder(settings), provenance.protocol).items

    def training_tasks(self, settings: JClinicalBenchConfig, name: str, protocol: Protocol, fold: int | None,
                       seed: int) -> list[Task]:
        if name != _TASK:
            raise ValueError(f"J-ClinicalBench has no task {name!r} here: its task is {_TASK}")
        return [training(_folder(settings), protocol)]

    def protocol(self, provenance: Provenance) -> str:
        # Both are made of the same reports (docs/log/heads.md).
        return (provenance.protocol + " (training text unchecked)" * provenance.unchecked
                + " (has seen JMED-LLM, which shares reports)" * bool(provenance.seen_of("jmed_llm")))

    def prepare(self, settings: JClinicalBenchConfig) -> None:
        _folder(settings)


def _folder(settings: JClinicalBenchConfig) -> Path:
    if not settings.data_dir:
        raise ValueError("j_clinicalbench.data_dir is empty: the benchmark states no licence and is not downloaded; "
                         "give the folder of a checkout")
    return Path(settings.data_dir)

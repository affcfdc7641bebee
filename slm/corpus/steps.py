"""The steps of the corpus pipeline, as datatrove runs them: every drop is counted by its reason and source.

A step counts documents and their characters under labels (in, SOURCE), (drop, REASON, SOURCE), … in datatrove's
statistics.
"""

import functools
import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import multiprocess
import numpy as np
from array_record.python import array_record_module
from datatrove.data import Document as Item
from datatrove.pipeline.base import PipelineStep
from datatrove.pipeline.filters.base_filter import BaseFilter
from loguru import logger

from slm.corpus import dataset, licenses, sources
from slm.files import write_json, write_json_lines, written_aside
from slm.text import cleaning, contamination, filters, privacy
from slm.text.bigram_pmi import BigramPMI
from slm.text.filters import PROFILES
from slm.text.morphology import Morphology
from slm.text.segmented_text import SegmentedText

logger.disable("datatrove")  # the pipeline reports progress and errors; a log of each task is noise

Items = Iterator[Item]
FACTS = np.dtype([("digest", "S16"), ("quality", "<f4"), ("length", "<u4")])
DUPLICATES = {1: "duplicate", 2: "near_duplicate"}
_DROPPED_CHARACTERS = 20_000  # kept of a dropped document, to look at and to train a classifier on
_DROPPED_DOCUMENTS = 100  # kept of each reason and task


SEPARATOR, CHARACTERS = "\x1f", "characters"  # between a label's parts; the last part of labels that count characters


def count(step: PipelineStep, *label: str, characters: int) -> None:
    """Counts a document under `label`, and its characters under a label of their own."""
    step.stat_update(SEPARATOR.join(label))
    step.stat_update(SEPARATOR.join((*label, CHARACTERS)), value=characters)


class Read(PipelineStep):
    """Task `rank` reads its part of its file and drops documents with a forbidden licence."""
    type, name = "READ", "read"

    def __init__(self, config: sources.CorpusConfig, tasks: list[tuple[int, str, int, int]]):
        super().__init__()
        self.config, self.tasks = config, tasks

    def run(self, data: None = None, rank: int = 0, world_size: int = 1) -> Items:
        index, path, part, parts = self.tasks[rank]
        source, parent = self.config.sets()[index], multiprocess.parent_process()
        documents = sources.read_part(self.config, Path(path), part, parts)
        while True:
            with self.track_time():
                document = next(documents, None)
            if document is None:
                return
            if parent and not parent.is_alive():
                os._exit(1)  # the run was killed, and its successor must not meet this process
            document = sources.with_source(document, source)
            count(self, "in", document.source, characters=len(document.text))
            for template, number in document.dropped_templates.items():
                self.stat_update(SEPARATOR.join(("template", template, "")), value=number)
            if name := licenses.forbidden(document.license, self.config.forbidden_licenses):
                count(self, "drop", f"license_{name}", document.source, characters=len(document.text))
                continue
            profile = document.profile if source.profile == "auto" else source.profile
            yield Item(text=document.text, id=document.id, metadata={
                "document": document, "source": document.source, "profile": profile})


class Filter(BaseFilter):
    """Counts the documents that go in, and drops those that `reason` names a reason for."""
    type = "RULE"

    def __init__(self, dropped: "Dropped | None" = None, batch_size: int = 1):
        super().__init__(batch_size=batch_size)
        self.dropped = dropped

    def reason(self, doc: Item) -> str | None:
        raise NotImplementedError

    def filter(self, doc: Item) -> bool:
        source, characters = doc.metadata["source"], len(doc.text)
        count(self, "in", source, characters=characters)
        reason = self.reason(doc)
        if reason:
            count(self, "drop", reason, source, characters=characters)
            if self.dropped:
                self.dropped.add(doc, reason)
        return not reason


class Clean(Filter):
    """Normalises, and removes the markup and apparatus of the source."""
    type, name = "CLEAN", "clean"

    def reason(self, doc: Item) -> str | None:
        try:
            doc.text = cleaning.clean(doc.text, doc.metadata["profile"])
        except ValueError:
            return "broken_characters"
        _segment(doc)
        return None if doc.text else "empty"


class Strip(PipelineStep):
    """Removes the boilerplate of web pages."""
    type, name = "CLEAN", "strip"

    def run(self, data: Items, rank: int = 0, world_size: int = 1) -> Items:
        for doc in data:
            if doc.metadata["profile"] == "web":
                doc.text = cleaning.without_boilerplate(doc.text)
                _segment(doc)
            yield doc


class Rule(Filter):
    """A rule of `slm.text.filters` as a step."""

    def __init__(self, rule: Callable[..., str | None], dropped: "Dropped", *arguments):
        self.name = rule.__name__  # before datatrove names its statistics by it
        super().__init__(dropped)
        self.rule, self.arguments = rule, arguments

    def reason(self, doc: Item) -> str | None:
        return self.rule(doc.metadata["segmented"], PROFILES[doc.metadata["profile"]], *self.arguments)


class Tag(PipelineStep):
    """Runs MeCab, so that its time is reported; the steps that follow read the morphemes.

    They are not stored: masking changes the text, and the tokenizer's dictionary segments it differently.
    """
    type, name = "TAG", "mecab"

    def run(self, data: Items, rank: int = 0, world_size: int = 1) -> Items:
        for doc in data:
            with self.track_time():
                doc.metadata["segmented"].hashes  # noqa: B018  computes the morphemes too
            yield doc


class Decontaminate(Filter):
    """Drops documents that hold an item of a benchmark."""
    name = "decontaminate"

    def __init__(self, index: Path, dropped: "Dropped"):
        super().__init__(dropped)
        self.path = index
        self.index: contamination.Index | None = None  # loaded by the process that runs the step

    def reason(self, doc: Item) -> str | None:
        self.index = self.index or contamination.Index.load(self.path)
        benchmark = self.index.find(doc.text)
        if not benchmark:
            return None
        doc.metadata["benchmark"] = benchmark
        count(self, "benchmark", benchmark, characters=len(doc.text))
        return "contaminated"


class Mask(PipelineStep):
    """Replaces personal information by placeholders."""
    type, name = "MASK", "mask"

    def __init__(self, facilities: re.Pattern | None):
        super().__init__()
        self.facilities = facilities

    def run(self, data: Items, rank: int = 0, world_size: int = 1) -> Items:
        for doc in data:
            with self.track_time():
                names = PROFILES[doc.metadata["profile"]].mask_names
                doc.text, counts = privacy.mask(doc.text, doc.metadata["segmented"].tagged, names, self.facilities)
                for kind, number in counts.items():
                    self.stat_update(SEPARATOR.join(("masked", kind)), value=number)
            yield doc


class Score(Filter):
    """Scores documents with the quality classifier, and drops those below the threshold."""
    name = "quality"

    def __init__(self, scorer: Callable[[list[str]], np.ndarray], threshold: float, dropped: "Dropped"):
        super().__init__(dropped, batch_size=64)
        self.scorer, self.threshold = scorer, threshold

    def filter_batch(self, batch: list[Item]) -> list[bool]:
        for doc, score in zip(batch, self.scorer([doc.text for doc in batch])):
            doc.metadata["quality"] = float(score)
        return [self.filter(doc) for doc in batch]

    def reason(self, doc: Item) -> str | None:
        return None if np.float32(doc.metadata["quality"]) >= self.threshold else "low_quality"


class Dropped:
    """The first dropped documents of each reason and task, personal information masked."""

    def __init__(self, folder: Path, facilities: re.Pattern | None):
        self.folder, self.facilities = folder, facilities
        self._rows: list[dict] = []
        self._seen: Counter[str] = Counter()

    def add(self, doc: Item, reason: str) -> None:
        self._seen[reason] += 1
        if self._seen[reason] > _DROPPED_DOCUMENTS:
            return
        text = doc.text[:_DROPPED_CHARACTERS]
        text, _ = privacy.mask(text, _morphology().tag(text), facilities=self.facilities)
        self._rows.append(_row(doc) | {
            "text": text, "reason": reason, "benchmark": doc.metadata.get("benchmark", "")})

    def write(self, rank: int) -> None:
        write_json_lines(self.folder / f"{rank:05d}.jsonl", self._rows)


class Keep(PipelineStep):
    """Writes the remaining documents, and the facts by which `duplicates.Choose` chooses among duplicates."""
    type, name = "KEEP", "keep"

    def __init__(self, folder: Path, dropped: Dropped):
        super().__init__()
        self.folder, self.dropped = folder, dropped

    def run(self, data: Items, rank: int = 0, world_size: int = 1) -> Items:
        facts = []
        with (written_aside(self.folder / f"{rank:05d}.jsonl") as aside, open(aside, "w", encoding="utf-8") as file):
            for doc in data:
                quality = doc.metadata.get("quality", float("nan"))
                file.write(json.dumps(_row(doc) | {"quality": quality}, ensure_ascii=False) + "\n")
                facts.append((dataset.digest(doc.text), quality, len(doc.text)))
                yield doc
        with written_aside(self.folder / f"{rank:05d}.npy") as aside, open(aside, "wb") as file:
            np.save(file, np.array(facts, FACTS))
        self.dropped.write(rank)  # every rule has seen every document by now


class DropDuplicates(Filter):
    """Reads what `Keep` wrote, and drops the documents that `duplicates.Choose` named."""
    name = "duplicates"

    def __init__(self, kept: Path, removed: Path):
        super().__init__()
        self.kept, self.removed = kept, removed

    def run(self, data: None = None, rank: int = 0, world_size: int = 1) -> Items:
        codes = np.load(self.removed / f"{rank:05d}.npy")
        with open(self.kept / f"{rank:05d}.jsonl", encoding="utf-8") as file:
            rows = (json.loads(line) for line in file)
            yield from super().run((Item(text=row.pop("text"), id=row["id"], metadata={**row, "code": code})
                                    for row, code in zip(rows, codes, strict=True)), rank, world_size)

    def reason(self, doc: Item) -> str | None:
        return DUPLICATES.get(int(doc.metadata.pop("code")))


class Write(PipelineStep):
    """The task's documents as ArrayRecord shards, one a split."""
    type, name = "WRITE", "write"

    def __init__(self, folder: Path, validation_share: float):
        super().__init__()
        self.folder, self.validation_share = folder, validation_share

    def run(self, data: Items, rank: int = 0, world_size: int = 1) -> None:
        features, lengths = dataset.features(), Counter[str]()
        writers: dict[str, array_record_module.ArrayRecordWriter] = {}
        aside = {split: self.folder / f"{split}-{rank:05d}.{os.getpid()}.writing" for split in dataset.SPLITS}
        self.folder.mkdir(parents=True, exist_ok=True)
        for doc in data:
            with self.track_time():
                split = dataset.split_of(doc.text, self.validation_share)
                if split not in writers:
                    writers[split] = array_record_module.ArrayRecordWriter(str(aside[split]), "group_size:1")
                writers[split].write(features.serialize_example({**doc.metadata, "text": doc.text}))
                lengths[split] += 1
                count(self, "out", doc.metadata["source"], characters=len(doc.text))
                count(self, "license", doc.metadata["license"], characters=len(doc.text))
                self.stat_update("bytes", value=len(doc.text.encode()))
        for split, writer in writers.items():
            writer.close()
            aside[split].rename(self.folder / f"{split}-{rank:05d}.array_record")
        write_json(self.folder / f"{rank:05d}.json", lengths)


@functools.cache
def _morphology() -> Morphology:
    """ipadic, one a process: masking reads its tags of persons and facilities."""
    return Morphology()


def _segment(doc: Item) -> None:
    doc.metadata["segmented"] = SegmentedText(doc.text, _morphology(), doc.metadata["document"].warnings)


def _row(doc: Item) -> dict[str, str]:
    """The fields of a document, with its text as it is now."""
    return {name: getattr(doc.metadata["document"], name) for name in sources.FIELDS} | {"text": doc.text}


def curation(config: sources.CorpusConfig, folder: Path, tasks: list, language: BigramPMI | None,
             facility_names: list[str], scorer: Callable | None) -> list[PipelineStep]:
    """The steps from reading to keeping, in order; the facilities are masked wherever they occur."""
    facilities = privacy.facility_list(facility_names)
    dropped = Dropped(folder / "dropped", facilities)
    steps: list[PipelineStep] = [Read(config, tasks), Clean()]
    steps += [*(Rule(rule, dropped) for rule in filters.BEFORE_STRIPPING), Strip()]
    steps += [Rule(rule, dropped) for rule in filters.CHEAP if rule not in filters.BEFORE_STRIPPING]
    if config.benchmarks:
        steps.append(Decontaminate(folder / "benchmarks.npz", dropped))
    steps += [Tag(), *(Rule(rule, dropped) for rule in filters.MORPHEMIC), Rule(filters.grammar, dropped, language)]
    if config.mask:
        steps.append(Mask(facilities))
    if scorer:
        steps.append(Score(scorer, config.threshold, dropped))
    return [*steps, Keep(folder / "kept", dropped)]

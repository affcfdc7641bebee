"""Texts with labels: what a classifier or a tagger learns from, packed into rows."""

import dataclasses
import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

import grain.python as grain
import numpy as np

from slm.data.conversations import first_fit
from slm.data.loader import Batch
from slm.model.presets import LabelGroup
from slm.tasks import annotated, tables
from slm.tasks.task import Item, Task
from slm.text.offsets import encode_with_spans
from slm.text.spans import Span
from slm.text.tokenizer import Tokenizer

SPANS = "spans"  # the group of all extraction sets: the same tag means the same in each
_BREAKS = "。\n"


@dataclasses.dataclass(frozen=True)
class LabelledText:
    """A text and what is right for it.

    Attributes:
      document: what is held out together.
      labels: {group that classifies: label}.
      spans: {group that tags: its spans, in characters of `text`}.
    """
    location: str
    document: str
    text: str
    labels: Mapping[str, str]
    spans: Mapping[str, tuple[Span, ...]]


def groups(tasks: Iterable[Task]) -> tuple[LabelGroup, ...]:
    """The label groups that tasks ask for: one for each tag of a choice, one for all extractions together.

    Raises:
      ValueError: options that differ from row to row, so that a letter has no meaning of its own.
    """
    made: dict[str, LabelGroup] = {}
    labels: dict[str, None] = {}
    for task in tasks:
        if task.kind == "exam":
            raise ValueError(f"{task.name} is an examination, whose options differ from question to question: leave it "
                             "out, or fine-tune a model that writes its answers (head=tokens)")
        if task.kind == "tagging":
            kinds = {span.kind for item in task.items for span in annotated.spans(item.answer)}
            made[task.name] = LabelGroup(task.name, "tag", tuple(sorted(kinds)), reads="question")
        if task.kind == "extraction":
            labels |= dict.fromkeys(sorted({tag_of(task, item) for item in task.items}))
        for name, items in _by_group(task).items():
            if len({item.options for item in items}) > 1:
                raise ValueError(f"the options of {name} differ from row to row, so a letter means nothing by itself: "
                                 "leave it out, or fine-tune a model that writes its answers (head=tokens)")
            wordings = {_wording(item) for item in items}
            letters, texts = zip(*items[0].options)
            made[name] = LabelGroup(name, "classify", letters, texts, "text" if len(wordings) == 1 else "question")
    if labels:
        made[SPANS] = LabelGroup(SPANS, "tag", tuple(labels))
    return tuple(made.values())


def group_name(task: Task, item: Item) -> str:
    if task.kind == "extraction":
        return SPANS
    return f"{task.name}/{item.tag}" if item.tag and task.kind == "choice" else task.name


def group_of(label_groups: Iterable[LabelGroup], task: Task, item: Item) -> LabelGroup:
    """The group that answers an item: that of its name, else the only one with its kind and its labels.

    Raises:
      ValueError: there is none.
    """
    name, kind = group_name(task, item), "classify" if task.kind == "choice" else "tag"
    wanted = {tag_of(task, item)} if task.kind == "extraction" else {letter for letter, _ in item.options}
    fitting = [group for group in label_groups if group.kind == kind and wanted <= {*group.labels}]
    named = [group for group in fitting if group.name == name] or fitting
    if len(named) != 1:
        raise ValueError(f"{item.id} asks for labels of {name!r}, which this model does not have: fine-tune it on that "
                         "task, or name other tasks with --config.tasks")
    return named[0]


def read_text(group: LabelGroup, item: Item) -> str:
    """What of an item the model reads."""
    return tables.text_of(item.question) if group.reads == "text" else item.question


def labelled(task: Task, label_groups: Sequence[LabelGroup]) -> list[LabelledText]:
    """The items of a task, those about one text together where one pass over it answers them all."""
    by_name = {group.name: group for group in label_groups}
    merged: dict[str, list[Item]] = defaultdict(list)
    for item in task.items:
        merged[read_text(by_name[group_name(task, item)], item)].append(item)
    texts = []
    for text, items in merged.items():
        if task.kind == "tagging":
            texts += [LabelledText(item.id, item.document, text, {}, {task.name: annotated.spans(item.answer)})
                      for item in items]
            continue
        if task.kind == "extraction":
            spans = _locate(text, [(entity, tag_of(task, item)) for item in items for entity in item.answer])
            texts.append(LabelledText(items[0].id, items[0].document, text, {}, {SPANS: spans}))
            continue
        labels: list[dict[str, str]] = [{}]
        for item in items:
            name = group_name(task, item)
            if name in labels[-1]:  # asked twice
                labels.append({})
            labels[-1][name] = item.answer[0]
        texts += [LabelledText(items[0].id, items[0].document, text, of_text, {}) for of_text in labels]
    return texts


def _by_group(task: Task) -> dict[str, list[Item]]:
    by_group: dict[str, list[Item]] = defaultdict(list)
    for item in task.items if task.kind == "choice" else ():
        by_group[group_name(task, item)].append(item)
    return by_group


def _wording(item: Item) -> str:
    text = tables.text_of(item.question)
    return "" if text == item.question else item.question.replace(text, "")


def tag_of(task: Task, item: Item) -> str:
    return item.tag or task.name


def _locate(text: str, entities: Sequence[tuple[str, str]]) -> tuple[Span, ...]:
    """Every occurrence of each entity, the longest first, without overlaps."""
    taken = np.zeros(len(text), bool)
    spans = []
    for entity, label in sorted(dict.fromkeys(entities), key=lambda pair: -len(pair[0])):
        start = text.find(entity) if entity else -1
        while start >= 0:
            end = start + len(entity)
            if not taken[start:end].any():
                taken[start:end] = True
                spans.append(Span(start, end, label))
            start = text.find(entity, end)
    return tuple(sorted(spans))


@dataclasses.dataclass(frozen=True)
class Window:
    """A stretch of a text as tokens: the end of a document, as before every document in pretraining, then the text's.

    Attributes:
      spans: (start, end) of each token in characters of the text; of the first an empty one.
    """
    ids: list[int]
    spans: list[tuple[int, int]]


@dataclasses.dataclass(frozen=True)
class Tokens:
    """A text as tokens; `spans` as of a window, `start` is the end of a document."""
    text: str
    ids: list[int]
    spans: list[tuple[int, int]]
    start: int

    @classmethod
    def of(cls, tokenizer: Tokenizer, text: str) -> "Tokens":
        return cls(text, *encode_with_spans(tokenizer, text), tokenizer.end_of_document)

    def whole(self, limit: int) -> Window:
        """One window of at most `limit` tokens, without the middle of a text that is too long, to classify it."""
        room = limit - 1
        if len(self.ids) <= room:
            return self._window(self.ids, self.spans)
        kept = [*range(room - room // 2), *range(len(self.ids) - room // 2, len(self.ids))]
        return self._window([self.ids[index] for index in kept], [self.spans[index] for index in kept])

    def windows(self, limit: int) -> list[Window]:
        """Windows of at most `limit` tokens that hold all of the text, and end with a sentence where they can."""
        room, begin = limit - 1, 0
        made: list[Window] = []
        while begin < len(self.ids) or not made:
            end = min(begin + room, len(self.ids))
            if end < len(self.ids):
                end = next((index for index in range(end, begin + room // 2, -1)
                            if self.text[self.spans[index - 1][1] - 1] in _BREAKS), end)
            made.append(self._window(self.ids[begin:end], self.spans[begin:end]))
            begin = max(end, 1)
        return made

    def _window(self, ids: list[int], spans: list[tuple[int, int]]) -> Window:
        return Window([self.start, *ids], [(spans[0][0],) * 2 if spans else (0, 0), *spans])


def tag_classes(group: LabelGroup, window: Window, spans: Iterable[Span]) -> list[int]:
    """The class of each token: 0 outside, 1 + 2 i at the beginning of label i, 2 + 2 i inside."""
    classes = [0] * len(window.ids)
    for span in spans:
        inside = [index for index, (start, end) in enumerate(window.spans) if start < span.end and end > span.start]
        for index in inside:
            classes[index] = 1 + 2 * group.labels.index(span.kind) + (index > inside[0])
    return classes


class LabelRows(grain.RandomAccessDataSource):
    """Labelled texts packed into rows of T tokens; a row has the arrays that `label_heads.sums` reads.

    A text's classes stand at the first positions of its segment, one for each group; of a group that tags, every token
    has one. Every label of a text has the same weight in the loss; all tags of a text have that of `tag_weight` labels.

    Attributes:
      conversations, tokens, learned, cut: as of `conversations.Packed`; an answer is a token in the loss.
      weight: the sum of the loss mask.
      bytes: UTF-8 bytes of the texts.
    """

    def __init__(self, texts: Iterable[LabelledText], label_groups: Sequence[LabelGroup], tokenizer: Tokenizer,
                 seq_len: int, tag_weight: float):
        self._seq_len, self._end = seq_len, tokenizer.end_of_document
        number = {group.name: index for index, group in enumerate(label_groups)}
        self._segments: list[dict[str, np.ndarray]] = []
        self.conversations = self.cut = self.bytes = 0
        for text in texts:
            self.conversations += 1
            self.bytes += len(text.text.encode())
            for segment in self._encoded(text, label_groups, number, tokenizer, tag_weight):
                self._segments.append(segment)
        lengths = [len(segment["inputs"]) for segment in self._segments]
        self._rows = first_fit(lengths, seq_len)
        self.tokens = sum(lengths)
        self.weight = float(sum(segment["loss_mask"].sum() for segment in self._segments))
        self.learned = int(sum((segment["loss_mask"] > 0).sum() for segment in self._segments))

    def _encoded(self, text, label_groups, number, tokenizer, tag_weight) -> Iterator[dict[str, np.ndarray]]:
        tokens = Tokens.of(tokenizer, text.text)
        if text.labels:
            window = tokens.whole(self._seq_len)
            self.cut += len(tokens.ids) > len(window.ids) - 1
            answers = [(number[name], label_groups[number[name]].labels.index(label))
                       for name, label in sorted(text.labels.items())]
            size = len(window.ids)
            for first in range(0, len(answers), size):  # a text of fewer tokens than answers is read again
                asked = answers[first:first + size]
                fill = size - len(asked)
                yield _arrays(window.ids, [group for group, _ in asked] + [asked[0][0]] * fill,
                              [label for _, label in asked] + [0] * fill, [1.0] * len(asked) + [0.0] * fill)
        for name, spans in sorted(text.spans.items()):
            windows = tokens.windows(self._seq_len)
            for window in windows:
                size = len(window.ids)
                weights = [0.0, *[tag_weight / len(windows) / max(size - 1, 1)] * (size - 1)]
                yield _arrays(window.ids, [number[name]] * size,
                              tag_classes(label_groups[number[name]], window, spans), weights)

    def digest(self) -> bytes:
        return hashlib.sha256(b"".join(
            array.tobytes() for segment in self._segments for array in segment.values())).digest()

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Batch:
        row: Batch = {name: np.zeros(self._seq_len, np.int32)
                      for name in ("inputs", "segments", "positions", "groups", "targets")}
        row["inputs"][:] = self._end
        row["loss_mask"] = np.zeros(self._seq_len, np.float32)
        start = 0
        for number, segment in enumerate(self._rows[int(index)], 1):
            size = len(self._segments[segment]["inputs"])
            span = slice(start, start + size)
            for name, array in self._segments[segment].items():
                row[name][span] = array
            row["segments"][span] = number
            row["positions"][span] = np.arange(size)
            start += size
        return row


def _arrays(ids, groups_of, targets, weights) -> dict[str, np.ndarray]:
    return {"inputs": np.asarray(ids, np.int32), "groups": np.asarray(groups_of, np.int32),
            "targets": np.asarray(targets, np.int32), "loss_mask": np.asarray(weights, np.float32)}

"""grain over token streams: row i predicts tokens[i·T : (i+1)·T], and the position to resume at is one integer.

Each token of the stream is predicted in exactly one row. The input of a row begins with the token before its targets,
so a document's first token is predicted from the end of the document before it, which segments otherwise hide.
"""

from collections.abc import Iterator, Mapping

import grain.python as grain
import numpy as np

from slm.data.stream import Stream

Batch = dict[str, np.ndarray]

_EPOCHS = 2**31  # endless; the length of grain's own endless repeat overflows when counted in rows


class Rows(grain.RandomAccessDataSource):
    """A stream as rows of T tokens.

    A row holds int32 arrays of shape [T]: `inputs`, `targets`, `segments` (1, 2, … a document inside the row; 0
    past the stream's end), `positions` (from 0 in each segment), and float32 `loss_mask` (1 where a target counts).
    """

    def __init__(self, stream: Stream, seq_len: int, end_of_document: int):
        self._stream, self._seq_len, self._end = stream, seq_len, end_of_document

    def __len__(self) -> int:
        return -(-len(self._stream) // self._seq_len)

    def __getitem__(self, index: int) -> Batch:
        length = self._seq_len
        start = int(index) * length
        tokens = np.full(length + 1, self._end, np.int32)
        stored = self._stream[max(0, start - 1):start + length]
        tokens[1 - min(start, 1):][:len(stored)] = stored
        count = min(length, len(self._stream) - start)  # targets before the stream's end
        # A document's segment begins where its first token is the target; its first input is the end of the document
        # before it.
        segments = np.searchsorted(self._stream.starts, np.arange(start, start + length), side="right")
        segments = (segments - segments[0] + 1).astype(np.int32)
        segments[count:] = 0
        first = np.concatenate([[True], segments[1:] != segments[:-1]])
        columns = np.arange(length, dtype=np.int32)
        positions = columns - np.maximum.accumulate(np.where(first, columns, 0))
        loss_mask = (columns < count).astype(np.float32)
        return {"inputs": tokens[:-1], "targets": tokens[1:], "segments": segments, "positions": positions,
                "loss_mask": loss_mask}


COPIED = ", copied"  # behind a source's name


class Copied(grain.RandomAccessDataSource):
    """Rows whose second half repeats the first, as one segment: a small model learns to copy from little else."""

    def __init__(self, rows: Rows):
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Batch:
        row = self._rows[index]
        length = len(row["targets"])
        half = length - length // 2
        targets = np.concatenate([row["targets"][:half], row["targets"][:length - half]])
        loss_mask = np.concatenate([row["loss_mask"][:half], row["loss_mask"][:length - half]])
        return {"inputs": np.concatenate([row["inputs"][:1], targets[:-1]]), "targets": targets,
                "segments": np.ones(length, np.int32), "positions": np.arange(length, dtype=np.int32),
                "loss_mask": loss_mask}


def with_copies(rows: Mapping[str, Rows], mixture: Mapping[str, float] | None, share: float
                ) -> tuple[dict[str, Rows | Copied], dict[str, float] | None]:
    """Rows and mixture in which `share` of the rows are copied ones, of each source alike."""
    if not share:
        return dict(rows), dict(mixture) if mixture else None
    weights = mixture or {name: float(len(of_source)) for name, of_source in rows.items()}
    return ({**rows, **{name + COPIED: Copied(of_source) for name, of_source in rows.items()}},
            {**{name: (1 - share) * weight for name, weight in weights.items()},
             **{name + COPIED: share * weight for name, weight in weights.items()}})


def training(rows: Mapping[str, Rows], batch_size: int, seed: int, mixture: Mapping[str, float] | None = None,
             share: int = 0, shares: int = 1) -> grain.MapDataset:
    """Endless batches: element `step` is the batch of that step, on any number of processes.

    Args:
      rows: {source: its rows}.
      batch_size: rows of a step over all processes.
      seed: of the global shuffle, which differs between epochs.
      mixture: {source: weight}; None reads every row once an epoch.
      share, shares: this process takes its share of each batch.

    Raises:
      ValueError: a batch size that the processes cannot share evenly, or a mixture of other sources.
    """
    if batch_size % shares:
        raise ValueError(f"a batch of {batch_size} rows cannot be shared by {shares} processes: make it a multiple")
    if mixture:
        if set(mixture) != set(rows):
            raise ValueError(f"the mixture weighs {sorted(mixture)}, the corpus has {sorted(rows)}: name each source")
        shuffled = [grain.MapDataset.source(rows[name]).seed(seed).shuffle().repeat(_EPOCHS) for name in sorted(rows)]
        dataset = grain.MapDataset.mix(shuffled, [mixture[name] for name in sorted(rows)])
    else:
        sources = [grain.MapDataset.source(rows[name]) for name in sorted(rows)]
        dataset = grain.MapDataset.concatenate(sources).seed(seed).shuffle().repeat(_EPOCHS)
    if shares > 1:
        dataset = dataset[share::shares]
    return dataset.batch(batch_size // shares)


def weighted(weights: Mapping[str, float], rows: Mapping[str, Rows]) -> dict[str, float] | None:
    """The mixture in which a source of weight w has w epochs for each epoch of a source of weight 1."""
    if all(weight == 1 for weight in weights.values()):
        return None
    return {source: weights[source] * len(of_source) for source, of_source in rows.items()}


def epochs(rows: Mapping[str, Rows], total_rows: int, mixture: Mapping[str, float] | None = None) -> dict[str, float]:
    """The epochs of each source in `total_rows` rows."""
    if mixture:
        share = sum(mixture.values())
        return {name: total_rows * mixture[name] / share / len(rows[name]) for name in rows}
    return dict.fromkeys(rows, total_rows / sum(map(len, rows.values())))


def iterate(dataset: grain.MapDataset, start: int, ahead: int = 2) -> Iterator[Batch]:
    """Batches from step `start` on, prefetched by a thread."""
    iterator = iter(dataset.to_iter_dataset(grain.ReadOptions(num_threads=1, prefetch_buffer_size=ahead)))
    iterator.set_state({"next_index": start})
    return iterator


def validation(rows: Rows, batch_size: int, limit: int | None = None, share: int = 0,
               shares: int = 1) -> Iterator[Batch]:
    """A source's rows in order, each once, in batches; the last is padded with rows whose loss mask is 0.

    Args:
      limit: rows to read; None: all.
      share, shares: this process takes its share of each batch.
    """
    number = len(rows) if limit is None else min(limit, len(rows))
    blank = {name: np.zeros_like(value) for name, value in rows[0].items()} if number else {}
    size = batch_size // shares
    for start in range(0, number, batch_size):
        first = start + share * size
        batch = [rows[index] for index in range(first, min(first + size, number))]
        batch += [blank] * (size - len(batch))
        yield {name: np.stack([row[name] for row in batch]) for name in blank}

"""Conversations → ids and loss mask, packed whole into rows."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import grain.python as grain
import numpy as np

from slm.corpus.readers import json_objects
from slm.data.loader import Batch
from slm.text import chat
from slm.text.chat import Message
from slm.text.normalize import normalize
from slm.text.tokenizer import Tokenizer


def read_messages(path: Path) -> Iterator[list[Message]]:
    """The conversations of a JSON Lines file, plain or compressed, with `messages` in each line."""
    for location, row in json_objects(path):
        messages: Any = row.get("messages")
        try:
            _refuse_tools(row, messages)
            chat.validate_messages(messages)
            _refuse_weights(messages)
        except ValueError as error:
            raise ValueError(f'{location}: {error}; a line is {{"messages": [{{"role": "user", "content": …}}, …]}}'
                             ) from None
        if not any(map(chat.is_learned, messages)):
            raise ValueError(f"{location} has no assistant turn to learn from: remove the line, or add one")
        yield _plain(messages, location)


def read_alpaca(path: Path) -> Iterator[list[Message]]:
    """The conversations of a JSON Lines file with Alpaca's columns: instruction, input (may be empty), output."""
    for location, row in json_objects(path):
        texts: list[Any] = [row.get("instruction"), row.get("input") or "", row.get("output")]
        if not all(isinstance(text, str) for text in texts):
            raise ValueError(f"{location} has no Alpaca record: instruction, input (may be empty) and output must be "
                             "strings")
        request = "\n\n".join(filter(None, texts[:2]))
        yield _plain([{"role": "user", "content": request}, {"role": "assistant", "content": texts[2]}], location)


def has_empty_answer(messages: Sequence[Message]) -> bool:
    """Whether a turn to learn from has no text: a model would learn to say nothing."""
    return any(chat.is_learned(message) and not normalize(message["content"]).strip() for message in messages)


def _refuse_tools(row: Mapping[str, Any], messages: Any) -> None:
    turns = [turn for turn in messages if isinstance(turn, dict)] if isinstance(messages, list) else []
    if (row.get("tools") or row.get("functions") or any(turn.get("role") in ("tool", "function") for turn in turns)
            or any(turn.get("tool_calls") or turn.get("function_call") for turn in turns)):
        raise ValueError("tool calls are not supported: remove such conversations")


def _refuse_weights(messages: Sequence[Message]) -> None:
    for message in messages:
        weight = message.get("weight", 1)
        if isinstance(weight, bool) or not isinstance(weight, int | float) or weight not in (0, 1):
            raise ValueError(f"a turn of the {message['role']} has a weight of type {type(weight).__name__} that is "
                             "neither the number 0 (not learned) nor 1")


def _plain(messages: list[Message], location: str) -> list[Message]:
    """The messages with only role, content and weight.

    Raises:
      ValueError: a lone surrogate in the content.
    """
    for message in messages:
        try:
            message["content"].encode()
        except UnicodeEncodeError as error:
            raise ValueError(f"{location} has half a character (a lone surrogate) at {error.start} of a turn of the "
                             f"{message['role']}: it was decoded wrongly; write the file again as UTF-8") from None
    return [{name: message[name] for name in ("role", "content", "weight") if name in message} for message in messages]


def is_held_out(group: str, share: float) -> bool:
    """Whether a conversation whose `group` is this text (its document, or its own text) is for validation."""
    digest = hashlib.sha256(normalize(group).encode()).digest()
    return int.from_bytes(digest[:8], "big") < share * 2**64


class Packed(grain.RandomAccessDataSource):
    """Conversations, each whole in one row of T tokens; a row has the arrays of `loader.Rows`.

    The loss mask is above 0 where the target is the assistant's: 1, or a share, so that a conversation has 1 in all.

    Attributes:
      conversations, tokens: their number in all rows.
      learned: the number of tokens in the loss mask.
      weight: the sum of the loss mask.
      cut: the number of conversations that lost the middle of their longest user turn, to fit.
      bytes: UTF-8 bytes of the assistant's normalised text, the denominator of bits per byte.
    """

    def __init__(self, conversations: Iterable[tuple[str, Sequence[Message]]], tokenizer: Tokenizer, seq_len: int,
                 alike: bool = False):
        """Packs (location, messages); error messages name the location.

        Args:
          alike: gives every conversation the same weight, so that long answers do not drown letters.
        """
        self._seq_len, self._end = seq_len, tokenizer.end_of_document
        ids, loss_masks = [], []
        self.bytes = self.cut = 0
        for location, messages in conversations:
            try:
                encoded = chat.encode(tokenizer, messages, limit=seq_len + 1)  # the first id is never a target
            except ValueError as error:
                raise ValueError(f"{location}: {error}") from None
            ids.append(np.asarray(encoded.ids, np.uint16 if len(tokenizer) <= 2**16 else np.int32))
            loss_masks.append(np.asarray(encoded.loss_mask, bool))
            self.cut += encoded.cut > 0
            self.bytes += sum(len(normalize(m["content"]).encode()) for m in messages if chat.is_learned(m))
        self._ids, self._loss_masks = ids, loss_masks
        lengths = [len(conversation) - 1 for conversation in ids]
        self._rows = first_fit(lengths, seq_len)
        self.conversations, self.tokens = len(ids), sum(lengths)
        counts = [int(mask.sum()) for mask in loss_masks]
        self.learned = sum(counts)
        self._weights = [1 / count if alike and count else 1.0 for count in counts]
        self.weight = sum(weight * count for weight, count in zip(self._weights, counts))

    def digest(self) -> bytes:
        """The same for the same conversations in the same order."""
        parts = (ids.tobytes() + mask.tobytes() for ids, mask in zip(self._ids, self._loss_masks))
        return hashlib.sha256(b"".join(parts)).digest()

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Batch:
        row = {"inputs": np.full(self._seq_len, self._end, np.int32),
               "targets": np.full(self._seq_len, self._end, np.int32),
               "segments": np.zeros(self._seq_len, np.int32), "positions": np.zeros(self._seq_len, np.int32),
               "loss_mask": np.zeros(self._seq_len, np.float32)}
        start = 0
        for segment, number in enumerate(self._rows[int(index)], 1):
            ids, mask = self._ids[number], self._loss_masks[number]
            span = slice(start, start + len(ids) - 1)
            row["inputs"][span], row["targets"][span] = ids[:-1], ids[1:]
            row["loss_mask"][span] = self._weights[number] * mask[1:]
            row["segments"][span] = segment
            row["positions"][span] = np.arange(len(ids) - 1)
            start = span.stop
        return row


def first_fit(lengths: Sequence[int], seq_len: int, open_rows: int = 64) -> list[list[int]]:
    """The conversations of each row: longest first, each into the first of the newest rows that has room."""
    rows: list[list[int]] = []
    room: list[int] = []
    for number in sorted(range(len(lengths)), key=lambda number: (-lengths[number], number)):
        first = max(0, len(rows) - open_rows)
        row = next((row for row in range(first, len(rows)) if room[row] >= lengths[number]), None)
        if row is None:
            row = len(rows)
            rows.append([])
            room.append(seq_len)
        rows[row].append(number)
        room[row] -= lengths[number]
    return rows

"""The chat template: messages → ids and loss mask.

    </s><|system|>…<|end|><|user|>…<|end|><|assistant|>…<|end|>

Each message is encoded on its own, so a control symbol spelled out in it stays plain text, and an answer has the same
ids in training and in scoring.
"""

import dataclasses
import re
from collections.abc import Sequence
from typing import Any

from slm.text.special_tokens import END_OF_TURN, ROLES
from slm.text.tokenizer import Tokenizer

Message = dict[str, Any]  # {role, content}; weight 0: an assistant's turn that the loss mask leaves out
_SYMBOLS = {symbol.strip("<|>"): symbol for symbol in ROLES}


@dataclasses.dataclass(frozen=True)
class Encoded:
    """A conversation as tokens.

    Attributes:
      ids: beginning with the end-of-document token.
      loss_mask: for each id, whether it is part of an assistant's turn, the end of the turn included.
      cut: tokens removed from the middle of the longest user turn, to fit.
    """
    ids: list[int]
    loss_mask: list[bool]
    cut: int


def encode(tokenizer: Tokenizer, messages: Sequence[Message], limit: int = 0, reply: bool = False) -> Encoded:
    """Encodes a conversation, or a prompt that the assistant is to answer.

    Args:
      limit: of the number of ids; 0: no limit.
      reply: whether to open the assistant's turn at the end.

    Raises:
      ValueError: not a conversation, or one that exceeds the limit even without its longest user turn.
    """
    validate_messages(messages)
    turns = [tokenizer.encode(message["content"]) for message in messages]
    cut = 0
    size = 1 + sum(len(turn) + 2 for turn in turns) + reply
    if limit < 0:
        raise ValueError(f"a conversation cannot fit {limit} tokens: the model's context is shorter than an answer")
    if limit and size > limit:
        users = [index for index, message in enumerate(messages) if message["role"] == "user"]
        longest = max(users, key=lambda index: len(turns[index]), default=None)
        cut = size - limit
        if longest is None or cut > len(turns[longest]):
            raise ValueError(f"a conversation of {size} tokens does not fit {limit}, even without its longest user "
                             "turn: shorten its other turns, or raise the limit")
        kept = len(turns[longest]) - cut
        turns[longest] = turns[longest][:kept - kept // 2] + turns[longest][len(turns[longest]) - kept // 2:]
    end = tokenizer.special(END_OF_TURN)
    ids, loss_mask = [tokenizer.end_of_document], [False]
    for message, turn in zip(messages, turns):
        ids += [tokenizer.special(_SYMBOLS[message["role"]]), *turn, end]
        loss_mask += [False, *[is_learned(message)] * (len(turn) + 1)]
    if reply:
        ids.append(tokenizer.special(_SYMBOLS["assistant"]))
        loss_mask.append(False)
    return Encoded(ids, loss_mask, cut)


def is_learned(message: Message) -> bool:
    return message["role"] == "assistant" and message.get("weight", 1) != 0


def validate_messages(messages: Sequence[Message]) -> None:
    """Raises a `ValueError` unless the messages are turns of known roles with text in them."""
    if not isinstance(messages, list | tuple) or not messages:
        raise ValueError("a conversation is a list of at least one {role, content}")
    for message in messages:
        if not isinstance(message, dict) or not isinstance(message.get("content"), str):
            raise ValueError("a message is {role, content}, both strings")
        if not isinstance(message.get("role"), str) or message["role"] not in _SYMBOLS:
            # Not the role itself: where fields are swapped, it is the text.
            raise ValueError(f"a message has an unknown role: known roles are {', '.join(_SYMBOLS)}")


_THOUGHTS = re.compile(r"\A\s*<think>.*?(?:</think>|\Z)|\A.*</think>", re.DOTALL)


def without_thoughts(output: str) -> str:
    """A reasoning model's answer without its thoughts, even where the limit of tokens cut them off."""
    return _THOUGHTS.sub("", output).strip()

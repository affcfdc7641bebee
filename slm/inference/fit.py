"""Fits conversations and texts into a model's context.

`text.chat.encode` shortens by tokens of our own tokenizers: the middle of the longest user turn. Here is what it does
not cover.
"""

from collections.abc import Callable, Sequence

from slm.text import chat
from slm.text.chat import Message
from slm.text.tokenizer import Tokenizer


def shorten(conversation: list[Message], fits: Callable[[list[Message]], bool]) -> list[Message] | None:
    """The conversation if it fits, otherwise without as few characters as possible from the middle of its longest user
    turn; None if even that is not enough. For tokenizers that can only be asked how long a whole prompt is."""
    if fits(conversation):
        return conversation
    users = [i for i, message in enumerate(conversation) if message["role"] == "user"]
    turn = max(users, key=lambda i: len(conversation[i]["content"]))
    text = conversation[turn]["content"]

    def without(count: int) -> list[Message]:
        first = (len(text) - count) // 2
        shorter = {"role": "user", "content": text[:first] + text[first + count:]}
        return [*conversation[:turn], shorter, *conversation[turn + 1:]]

    if not fits(without(len(text))):
        return None
    low, high = 0, len(text)  # does not fit, fits
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if fits(without(middle)) else (middle, high)
    return without(high)


def latest_turns(tokenizer: Tokenizer, messages: Sequence[Message], limit: int) -> list[int] | None:
    """Ids of a prompt for the assistant, without as few of the oldest turns as possible; the system message stays.
    None if even the last question does not fit in `limit` tokens."""
    system = messages[:1] if messages[0]["role"] == "system" else []
    for first in range(len(system), len(messages), 2):
        ids = chat.encode(tokenizer, [*system, *messages[first:]], reply=True).ids
        if len(ids) <= limit:
            return ids
    return None


def open_answer(tokenizer: Tokenizer, messages: Sequence[Message], limit: int) -> tuple[list[int], int]:
    """(ids, tokens left out) of a conversation that ends inside the assistant's answer."""
    encoded = chat.encode(tokenizer, messages, limit + 1)
    return encoded.ids[:-1], encoded.cut


def end_of_text(tokenizer: Tokenizer, text: str, limit: int) -> tuple[list[int], int]:
    """(ids, tokens left out) of a plain text, without its beginning if that does not fit."""
    ids = [tokenizer.end_of_document, *tokenizer.encode(text)]
    cut = max(0, len(ids) - limit)
    return ids[cut:], cut

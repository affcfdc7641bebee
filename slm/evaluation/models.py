"""The interface between an evaluation and the model under test, and our own checkpoints behind it."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from slm.inference.constraints import Constraint
from slm.inference.engine import Engine
from slm.inference.sampling import GREEDY
from slm.tasks.task import Message
from slm.text import chat
from slm.text.tokenizer import END_OF_TURN, Tokenizer


class Model(Protocol):
    """A model under test.

    Attributes:
      name: on the leaderboard.
      template: the chat template that it is asked in, as the leaderboard names it.
      truncated: prompts so far that lost the middle of their longest user turn to fit the context.
    """
    name: str
    template: str
    truncated: int

    def generate(self, conversations: Sequence[list[Message]], max_tokens: int) -> list[str]:
        """Greedy answers."""

    def log_likelihoods(self, requests: Sequence[tuple[list[Message], Sequence[str]]]) -> list[list[float]]:
        """For each conversation, log P in nats of each text as the beginning of the assistant's answer."""

    def tokenize(self, text: str) -> list[int]:
        """Ids of a text."""


@runtime_checkable
class Tagger(Protocol):
    """A model with a head that finds spans, as the answer mode `heads` asks it."""
    name: str
    template: str
    truncated: int

    def tag(self, texts: Sequence[str]) -> list[list[tuple[int, int, str, float]]]:
        """(start, end, label, confidence) of the spans of each text, in its characters."""


class Checkpoint:
    """A checkpoint of ours."""

    def __init__(self, engine: Engine, tokenizer: Tokenizer, name: str):
        """
        Raises:
          KeyError: a tokenizer without the chat template's symbols.
        """
        self.name, self.truncated, self.engine, self.tokenizer = name, 0, engine, tokenizer
        self.template = "the chat template of slm"
        self._end_of_turn = tokenizer.special(END_OF_TURN)

    @classmethod
    def load(cls, workdir: Path, batch_tokens: int = 16_384) -> "Checkpoint":
        return cls(*Engine.load(workdir, batch_tokens=batch_tokens), str(workdir))

    def tokenize(self, text: str) -> list[int]:
        return self.tokenizer.encode(text)

    def generate(self, conversations: Sequence[list[Message]], max_tokens: int) -> list[str]:
        answers = self.engine.generate(self._prompts(conversations, max_tokens), max_tokens, GREEDY,
                                       self._end_of_turn)
        return [self.tokenizer.decode(ids) for ids in answers]

    def generate_constrained(self, conversations: Sequence[list[Message]], constraints: Sequence[Constraint],
                             max_tokens: int) -> list[list[int]]:
        """Greedy ids, each the most likely of those that its constraint allows."""
        return self.engine.generate_constrained(self._prompts(conversations, max_tokens), constraints, max_tokens)

    def log_likelihoods(self, requests: Sequence[tuple[list[Message], Sequence[str]]]) -> list[list[float]]:
        texts = [[self.tokenizer.encode(text) for text in continuations] for _, continuations in requests]
        longest = max((len(ids) for options in texts for ids in options), default=1)
        prompts = self._prompts((messages for messages, _ in requests), longest)
        scores = iter(self.engine.score([(prompt, ids) for prompt, options in zip(prompts, texts) for ids in options]))
        return [[next(scores)[0] for _ in options] for options in texts]

    def _prompts(self, conversations: Iterable[list[Message]], new_tokens: int) -> list[list[int]]:
        """Ids of prompts that leave `new_tokens` tokens of the context free."""
        limit = self.engine.model_config.context - new_tokens
        if limit < 1:
            raise ValueError(f"{self.name} has a context of {self.engine.model_config.context} tokens, an answer may "
                             f"take {new_tokens}: evaluate a model with a longer context")
        encoded = [chat.encode(self.tokenizer, messages, limit, reply=True) for messages in conversations]
        self.truncated += sum(prompt.cut > 0 for prompt in encoded)
        return [prompt.ids for prompt in encoded]

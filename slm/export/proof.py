"""Proof that an export computes what the checkpoint computes: the same prompts go through both."""

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from slm.inference.engine import Engine
from slm.inference.sampling import GREEDY
from slm.model import decoder
from slm.model.presets import ModelConfig
from slm.text.tokenizer import Tokenizer


class Runtime(Protocol):
    """An exported model in the program it was exported for."""

    def log_probabilities(self, ids: Sequence[int]) -> np.ndarray:
        """Log P in nats of what follows each token of a prompt: [T, V]."""

    def greedy(self, ids: Sequence[int], count: int) -> list[int]:
        """The `count` most likely tokens that follow, end tokens included."""


@dataclasses.dataclass(frozen=True)
class Proof:
    """How far an export is from the checkpoint.

    Attributes:
      max_logit_difference: the largest over positions and vocabulary, after log-softmax, for runtimes return no more.
      greedy_agreement: share of greedily generated tokens that are equal.
      tokens_compared: the number of those tokens.
      positions_compared: positions of prompts whose logits were compared.
    """
    max_logit_difference: float
    greedy_agreement: float
    tokens_compared: int
    positions_compared: int


def compare(params: decoder.Params, model_config: ModelConfig, runtime: Runtime, prompts: Sequence[Sequence[int]],
            new_tokens: int = 12) -> Proof:
    """Compares our decoder in float32 with a runtime, over prompts of any lengths."""
    engine = _exact(params, model_config)
    worst, same = 0.0, 0
    # No end token, so that as many tokens are compared for each prompt.
    continued = engine.generate(prompts, new_tokens, GREEDY, end=-1)
    for prompt, ours in zip(prompts, continued):
        theirs = runtime.log_probabilities(prompt)
        # np.maximum keeps a NaN, which then exceeds any tolerance.
        worst = float(np.maximum(worst, np.abs(theirs - engine.log_probabilities(prompt)).max()))
        same += sum(a == b for a, b in zip(ours, runtime.greedy(prompt, new_tokens)))
    compared = len(prompts) * new_tokens
    return Proof(worst, same / compared, compared, sum(map(len, prompts)))


class Transformers:
    """A folder in Hugging Face's format, in transformers on the CPU, computed in float32."""

    def __init__(self, folder: Path):
        """
        Raises:
          RuntimeError: without torch or transformers.
        """
        try:
            import torch
            import transformers
        except ImportError as error:
            raise RuntimeError(f"the proof of a Hugging Face export needs {error.name}: pip install "
                               "'slm[hugging_face]', or write it unproven with --config.prove=false") from None
        transformers.utils.logging.disable_progress_bar()
        self._torch = torch
        self._model = transformers.AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, local_files_only=True).eval()

    def log_probabilities(self, ids: Sequence[int]) -> np.ndarray:
        with self._torch.inference_mode():
            return self._model(self._torch.tensor([list(ids)])).logits[0].log_softmax(-1).numpy()

    def greedy(self, ids: Sequence[int], count: int) -> list[int]:
        chosen: list[int] = []
        for _ in range(count):
            chosen.append(int(self.log_probabilities([*ids, *chosen])[-1].argmax()))
        return chosen


class LlamaCpp:
    """A GGUF file in llama.cpp."""

    def __init__(self, path: Path, tokenizer: Tokenizer, exact: bool):
        """
        Args:
          exact: keys and values in float32 and plain attention; otherwise as it runs for users.
        """
        from slm.local import runtime
        self._runtime, self._size = runtime.LlamaCpp(path, tokenizer, exact=exact), len(tokenizer)
        # llama.cpp returns probabilities only with the text of a token: not with an end, nor with part of a character.
        # They are those before sampling, so a token with text is forced.
        self._silent = [tokenizer.is_special(index) or tokenizer.is_byte(index) for index in range(self._size)]
        self._carrier = self._silent.index(False)

    def log_probabilities(self, ids: Sequence[int]) -> np.ndarray:
        result = np.full((len(ids), self._size), np.nan, np.float32)
        for position in range(len(ids)):
            result[position] = self._all(ids[:position + 1])
        return result

    def greedy(self, ids: Sequence[int], count: int) -> list[int]:
        chosen: list[int] = []
        for _ in range(count):  # one at a time: an end would stop it
            chosen.append(self._forced([*ids, *chosen], self._carrier, 1)["top_logprobs"][0]["id"])
        return chosen

    def log_likelihood(self, ids: Sequence[int]) -> float:
        """Σ log P, in nats, of a document's tokens after its first."""
        total = 0.0
        for position in range(1, len(ids)):
            before, token = ids[:position], int(ids[position])
            total += self._all(before)[token] if self._silent[token] else self._forced(before, token, 1)["logprob"]
        return total

    def _all(self, ids: Sequence[int]) -> np.ndarray:
        result = np.full(self._size, np.nan, np.float32)
        for entry in self._forced(ids, self._carrier, self._size)["top_logprobs"]:
            result[entry["id"]] = entry["logprob"]
        return result

    def _forced(self, ids: Sequence[int], token: int, count: int) -> dict:
        """llama.cpp's answer with `token` forced: its log probability, and the `count` most likely tokens."""
        chunks: list[dict] = []

        def take(chunk: dict) -> bool:
            chunks.append(chunk)
            return False
        self._runtime.complete({"prompt": [int(index) for index in ids], "max_tokens": 1, "temperature": 0.0,
                                "n_probs": count, "logit_bias": [[token, 1e6]]},
                               take)
        for chunk in chunks:
            if "error" in chunk:
                raise RuntimeError(f"llama.cpp: {chunk['error']['message']}")
        return chunks[0]["choices"][0]["logprobs"]["content"][0]


def bits_per_byte(runtime: LlamaCpp, documents: Sequence[Sequence[int]], size: int) -> float:
    """Of documents as ids, their ends included, whose normalised text has `size` bytes of UTF-8."""
    return -float(sum(map(runtime.log_likelihood, documents))) / math.log(2) / size


def ours_bits_per_byte(params: decoder.Params, model_config: ModelConfig, documents: Sequence[Sequence[int]],
                       size: int) -> float:
    """The same by our decoder in float32."""
    scores = _exact(params, model_config).score([(ids[:1], ids[1:]) for ids in documents])
    return -sum(log_probability for log_probability, _ in scores) / math.log(2) / size


def _exact(params: decoder.Params, model_config: ModelConfig) -> Engine:
    return Engine(params, dataclasses.replace(model_config, compute_dtype="float32", scan_layers=False, remat="none"))

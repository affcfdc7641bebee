"""A model behind an OpenAI-compatible server (vLLM, Ollama, llama.cpp, a service) for the leaderboard."""

import math
import os
import re
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from slm.tasks.task import Message

_TOP = 20  # the most likely tokens that a server is asked for, the most that the API allows
# What a model thinks aloud is no part of its answer; nor is it where the answer was cut off before it began.
_THOUGHT = re.compile(r"^\s*<think>.*?(?:</think>|$)", re.DOTALL)


class Endpoint:
    """Nothing leaves the machine but to `base_url`, which is never guessed.

    The key is SLM_API_KEY or OPENAI_API_KEY of the environment. Requests are tried again where the server is busy or
    fails. Prompts are not cut, for a server does not say how it counts: one that is too long is the server's error.
    """

    def __init__(self, base_url: str, model: str, workers: int = 8, timeout: float = 300.0, retries: int = 3):
        """
        Args:
          base_url: of the API, for example http://localhost:8000/v1.
          model: as {base_url}/models lists it.
          workers: requests at a time.
          timeout: seconds of one try.

        Raises:
          ValueError: no base_url or no model.
          RuntimeError: without the openai client.
        """
        if not re.match("https?://.", base_url):
            raise ValueError(f"base_url={base_url!r} is no address: name the server that may see the questions, for "
                             "example http://localhost:8000/v1")
        if not model:
            raise ValueError(f"model='' names no model: name it as {base_url}/models lists it")
        try:
            import openai  # late: for these models only
        except ImportError:
            raise RuntimeError("pip install openai, through which a model behind an endpoint is asked") from None
        self.name, self.truncated, self.workers, self.base_url = model, 0, workers, base_url.rstrip("/")
        self._client = openai.OpenAI(
            base_url=base_url, timeout=timeout, max_retries=retries,
            api_key=os.environ.get("SLM_API_KEY") or os.environ.get("OPENAI_API_KEY") or "none")

    def generate(self, conversations: Sequence[list[Message]], max_tokens: int) -> list[str]:
        """The greedy reply to each conversation.

        Raises:
          RuntimeError: a request failed for good.
        """
        def reply(conversation: list[Message]) -> str:
            text = self._ask(conversation, lambda choice: choice.message.content or "", max_tokens=max_tokens)
            return _THOUGHT.sub("", text).strip().encode(errors="replace").decode()  # no lone surrogates
        return self._each(reply, conversations)

    def log_likelihoods(self, requests: Sequence[tuple[list[Message], Sequence[str]]]) -> list[list[float]]:
        """For each conversation, log P (nats) of each letter as the reply's first token.

        A server tells only the most likely tokens: a letter not among them counts as the least likely of these, which
        is an upper bound. NaN where the reply would begin with none of the letters.

        Raises:
          ValueError: a continuation that is no single character.
          RuntimeError: a request failed for good, or the server gives no log-probabilities.
        """
        for _, continuations in requests:
            for text in continuations:
                if len(text) != 1:
                    raise ValueError("an endpoint tells the likelihood of a reply's first token only, and "
                                     f"{text[:40]!r} is no single letter: use the readout by generation")
        return self._each(lambda request: self._letters(*request), requests)

    def _letters(self, conversation: list[Message], letters: Sequence[str]) -> list[float]:
        def first(choice: Any) -> list[tuple[str, float]]:
            if not choice.logprobs or not choice.logprobs.content:
                return []
            return [(entry.token, entry.logprob) for entry in choice.logprobs.content[0].top_logprobs]

        found = self._ask(conversation, first, max_tokens=1, logprobs=True, top_logprobs=_TOP)
        if not found:
            raise RuntimeError(f"{self.base_url} gives no log-probabilities of {self.name}: let it serve them, or use "
                               "the readout by generation")
        least = min(value for _, value in found)
        result = []
        for letter in letters:
            values = [math.exp(value) for token, value in found if token.strip("▁ \n") == letter]
            result.append(math.log(sum(values)) if sum(values) else least)
        return result if any(token.strip("▁ \n") in letters for token, _ in found) else [math.nan] * len(letters)

    def tokenize(self, text: str) -> list[int]:
        """Ids of the text, by POST /tokenize of llama.cpp and vLLM.

        Raises:
          ValueError: another server, which does not tell.
        """
        import openai
        root = self.base_url.removesuffix("/v1")
        body = {"model": self.name, "content": text, "prompt": text, "add_special_tokens": False}
        try:
            tokens = self._client.post(f"{root}/tokenize", cast_to=object, body=body)["tokens"]
            if not all(isinstance(token, int) for token in tokens):
                raise ValueError("its tokens are no integers")
        except (openai.OpenAIError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{root}/tokenize does not say how {self.name} splits text ({_short(error)}): use a "
                             "readout that needs no tokens") from None
        return list(tokens)

    def _ask(self, conversation: list[Message], read: Callable[[Any], Any], **settings: Any) -> Any:
        from openai import OpenAIError
        try:  # the client checks neither that an answer is JSON nor what a server leaves out
            completion = self._client.chat.completions.create(
                model=self.name, messages=conversation, temperature=0, **settings)
            return read(completion.choices[0])
        except (OpenAIError, AttributeError, IndexError, TypeError, ValueError) as error:
            raise RuntimeError(f"{self.base_url} gave no usable answer for {self.name} ({_short(error)}): see that the "
                               "server runs, has this model and takes prompts of this length") from None

    def _each(self, function: Callable[[Any], Any], requests: Iterable[Any]) -> list[Any]:
        with ThreadPoolExecutor(self.workers) as pool:
            futures = [pool.submit(function, request) for request in requests]
            try:
                return [future.result() for future in futures]
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)  # after a failure nothing more is asked
                raise


def _short(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error)[:300]}"

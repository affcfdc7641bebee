"""A model behind an OpenAI-compatible server (vLLM, Ollama, llama.cpp, a service)."""

import math
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

from slm import openai_client
from slm.tasks.task import Message

_TOP = 20  # most likely tokens requested, the maximum of the API


class Endpoint:
    """Prompts are sent to `base_url` alone, which has no default.

    Requests are retried if the server is busy or fails.
    Prompts are not truncated, for a server does not say how it counts tokens: too long a prompt is the server's error.
    """

    def __init__(self, base_url: str, model: str, workers: int = 8, timeout: float = 300.0, retries: int = 3,
                 api_key_variable: str = ""):
        """
        Args:
          base_url: of the API, for example http://localhost:8000/v1.
          model: as {base_url}/models lists it.
          workers: requests at a time.
          timeout: seconds per attempt.
          api_key_variable: as `openai_client.connect` takes it.

        Raises:
          ValueError: no base_url or no model, or a key that is not set.
          RuntimeError: without the openai client.
        """
        if not model:
            raise ValueError(f"model='' names no model: choose one of {base_url}/models")
        self.template = "the server's chat template"
        self.name, self.truncated, self.workers, self.base_url = model, 0, workers, base_url.rstrip("/")
        self._client = openai_client.connect(base_url, timeout, retries, api_key_variable)

    def generate(self, conversations: Sequence[list[Message]], max_tokens: int) -> list[str]:
        """The greedy reply to each conversation.

        Raises:
          RuntimeError: a request failed after all retries.
        """
        def reply(conversation: list[Message]) -> str:
            text = self._ask(conversation, lambda choice: choice.message.content or "", max_tokens=max_tokens)
            return text.strip().encode(errors="replace").decode()  # no lone surrogates
        return self._each(reply, conversations)

    def log_likelihoods(self, requests: Sequence[tuple[list[Message], Sequence[str]]]) -> list[list[float]]:
        """For each conversation, log P (nats) of each letter as the reply's first token.

        A server returns only the most likely tokens: a letter not among them gets the lowest of their values, an upper
        bound. NaN if no letter is among them.

        Raises:
          ValueError: a continuation that is not a single character.
          RuntimeError: a request failed after all retries, or the server returns no log-probabilities.
        """
        for _, continuations in requests:
            for text in continuations:
                if len(text) != 1:
                    raise ValueError("an endpoint gives the likelihood of a reply's first token only, and "
                                     f"{text[:40]!r} is not a single letter: use the answer mode free")
        return self._each(lambda request: self._letters(*request), requests)

    def _letters(self, conversation: list[Message], letters: Sequence[str]) -> list[float]:
        def first(choice: Any) -> list[tuple[str, float]]:
            if not choice.logprobs or not choice.logprobs.content:
                return []
            return [(entry.token, entry.logprob) for entry in choice.logprobs.content[0].top_logprobs]

        top = self._ask(conversation, first, max_tokens=1, logprobs=True, top_logprobs=_TOP)
        if not top:
            raise RuntimeError(f"{self.base_url} returns no log-probabilities of {self.name}: enable them on the "
                               "server, or use the answer mode free")
        least, probabilities = min(value for _, value in top), dict.fromkeys(letters, 0.0)
        for token, value in top:
            if (letter := token.strip("▁ \n")) in probabilities:
                probabilities[letter] += math.exp(value)
        if not any(token.strip("▁ \n") in letters for token, _ in top):
            return [math.nan] * len(letters)
        return [math.log(value) if value else least for value in probabilities.values()]

    def tokenize(self, text: str) -> list[int]:
        """Ids of the text, by POST /tokenize of llama.cpp and vLLM.

        Raises:
          ValueError: a server without that route.
        """
        import openai
        root = self.base_url.removesuffix("/v1")
        body = {"model": self.name, "content": text, "prompt": text, "add_special_tokens": False}
        try:
            answer: Any = self._client.post(f"{root}/tokenize", cast_to=object, body=body)
            tokens = answer["tokens"]
            if not all(isinstance(token, int) for token in tokens):
                raise ValueError("its tokens are not integers")
        except (openai.OpenAIError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{root}/tokenize does not tokenize for {self.name} ({type(error).__name__}): use an "
                             "answer mode that needs no tokens") from None
        return list(tokens)

    def _ask(self, conversation: list[Message], read: Callable[[Any], Any], **settings: Any) -> Any:
        from openai import OpenAIError
        try:  # the client checks neither that an answer is JSON nor that its fields exist
            completion = self._client.chat.completions.create(
                model=self.name, messages=cast(Any, conversation), temperature=0, **settings)
            return read(completion.choices[0])
        except (OpenAIError, AttributeError, IndexError, TypeError, ValueError) as error:
            # Not its message: servers quote what they were sent.
            raise RuntimeError(f"{self.base_url} gave no usable answer for {self.name} ({type(error).__name__}): check "
                               "that the server runs, has this model and accepts prompts of this length; its own log "
                               "says more") from None

    def _each(self, function: Callable[[Any], Any], requests: Iterable[Any]) -> list[Any]:
        with ThreadPoolExecutor(self.workers) as pool:
            futures = [pool.submit(function, request) for request in requests]
            try:
                return [future.result() for future in futures]
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)  # no more requests after a failure
                raise

"""The writers of textbooks: the bundled tables, or a model behind an OpenAI-compatible endpoint."""

import dataclasses
import hashlib
from typing import Any

from slm import openai_client, sample
from slm.corpus import textbook_prompts as prompts
from slm.corpus.textbook_prompts import Item
from slm.text.chat import without_thoughts


@dataclasses.dataclass(frozen=True)
class Answer:
    text: str
    tokens: int | None = None  # as the endpoint counts them
    whole: bool = True  # not truncated at the largest number of tokens


class NoAnswer(Exception):
    """A request without a usable answer; its argument is the kind of error.

    Not the message, in which servers quote what they were sent or have written.
    """


class Generator:
    """The bundled tables; nothing is sent anywhere."""
    model = "slm tables"

    def __init__(self, seed: int):
        tables = hashlib.sha256(b"".join(path.read_bytes() for path in sample.files())).hexdigest()[:16]
        self.seed, self.parameters = seed, {"seed": seed, "tables": tables}

    def request(self, item: Item) -> Any:
        return [item.topic.surface, item.topic.kind, *item.slot]

    async def write(self, item: Item) -> Answer:
        try:
            return Answer(prompts.generate(item, self.seed))
        except ValueError:
            raise NoAnswer("NotInTables") from None

    async def close(self) -> None:
        pass


class Endpoint:
    """A model behind an OpenAI-compatible server: vLLM, Ollama, llama.cpp, …"""

    def __init__(self, base_url: str, model: str, sampling: dict[str, Any], timeout: float, retries: int,
                 api_key_variable: str = "", http_client: Any = None):
        if not model:
            raise ValueError(f"backend='openai' with model='': choose a model that {base_url}/models lists")
        self.model, self.parameters = model, sampling
        self.client = openai_client.connect(base_url, timeout, retries, api_key_variable, True, http_client)

    def request(self, item: Item) -> Any:
        return prompts.messages(item)

    async def write(self, item: Item) -> Answer:
        from openai import OpenAIError
        try:  # the client does not check that an answer is JSON, nor that it is complete
            completion = await self.client.chat.completions.create(
                model=self.model, messages=self.request(item), **self.parameters)
            choice = completion.choices[0]
            text = without_thoughts(choice.message.content or "")
            text.encode()  # no lone surrogates
            tokens = completion.usage.completion_tokens if completion.usage else None
        except (OpenAIError, AttributeError, IndexError, TypeError, ValueError) as error:
            raise NoAnswer(type(error).__name__) from None
        if not text:
            raise NoAnswer("Length" if choice.finish_reason == "length" else "Empty")
        return Answer(text, tokens, choice.finish_reason != "length")

    async def close(self) -> None:
        await self.client.close()

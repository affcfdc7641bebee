"""OpenAI's requests and answers: what a client may ask, in llama.cpp's words, and what it is told, in OpenAI's."""

import dataclasses
import json
import random
import time
import uuid
from collections.abc import Mapping
from typing import Any

from slm.inference.sampling import Settings
from slm.local.runtime import LlamaCpp
from slm.text import chat

_MOST_STOPS, _LONGEST_STOP = 4, 200
_MOST_LOGPROBS = 20
_LONGEST_GRAMMAR = 20_000
_LONGEST_PIECE = 32  # characters of a token, generously
# What would change the answer and is not done here, with the values that ask for nothing.
_UNSUPPORTED = {"n": (1,), "best_of": (1,), "echo": (False,), "suffix": ("",), "logit_bias": ({},), "tools": ([],),
                "functions": ([],), "response_format": ({"type": "text"},)}


@dataclasses.dataclass(frozen=True)
class Request:
    """A request, read and checked.

    Attributes:
      completion: it in llama.cpp's words, with the prompt as ids.
      logprobs: likeliest tokens to tell beside each; -1: no probabilities.
    """
    completion: dict[str, Any]
    chat: bool
    stream: bool
    include_usage: bool
    logprobs: int


def read_completion(body: Mapping[str, Any], model: LlamaCpp, default: Settings) -> Request:
    """A request to /v1/completions; its prompt a text, or ids.

    Raises:
      ValueError: what cannot be done, in a sentence for the client.
    """
    prompt = body.get("prompt")
    if isinstance(prompt, str):
        _refuse_long(len(prompt), model)
        ids = [model.tokenizer.end_of_document, *model.tokenizer.encode(prompt)]
    elif isinstance(prompt, list) and prompt and all(type(index) is int for index in prompt):
        size = len(model.tokenizer)
        if not all(0 <= index < size for index in prompt):
            raise ValueError(f"prompt has an id outside of the vocabulary, 0 to {size - 1}")
        ids = prompt
    else:
        raise ValueError("prompt has to be one text, or a list of token ids")
    logprobs = body.get("logprobs")
    return _request(body, model, default, ids, False, -1 if logprobs is None else _whole(
        "logprobs", logprobs, 0, _MOST_LOGPROBS))


def read_chat(body: Mapping[str, Any], model: LlamaCpp, default: Settings) -> Request:
    """A request to /v1/chat/completions."""
    messages = body.get("messages")
    if isinstance(messages, list):
        messages = [_plain(message) for message in messages]
        _refuse_long(sum(len(message["content"]) for message in messages if isinstance(message, dict)
                         and isinstance(message.get("content"), str)), model)
    ids = chat.encode(model.tokenizer, messages, reply=True).ids
    told = body.get("logprobs", False)
    if not isinstance(told, bool | None):
        raise ValueError("logprobs has to be true or false")
    return _request(body, model, default, ids, True, _whole(
        "top_logprobs", body.get("top_logprobs") or 0, 0, _MOST_LOGPROBS) if told else -1)


def _refuse_long(characters: int, model: LlamaCpp) -> None:
    """Before it is cut into tokens, which takes seconds of a text of a megabyte."""
    most = _LONGEST_PIECE * model.context
    if characters > most:
        raise ValueError(f"the text has {characters} characters, more than {most}, the most that the model's context "
                         f"of {model.context} tokens can hold: shorten it")


def _plain(message: Any) -> Any:
    """A message with its content as one text, and developer as system."""
    if not isinstance(message, dict):
        return message
    content = message.get("content")
    if isinstance(content, list):
        if not all(isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str)
                   for part in content):
            raise ValueError("a message has content that is not text")
        content = "".join(part["text"] for part in content)
    return {"role": {"developer": "system"}.get(str(message.get("role")), message.get("role")), "content": content}


def _request(body: Mapping[str, Any], model: LlamaCpp, default: Settings, ids: list[int], chatting: bool,
             logprobs: int) -> Request:
    for name, nothing in _UNSUPPORTED.items():
        if body.get(name) is not None and body[name] not in nothing:
            raise ValueError(f"{name} is not supported here, only {name}={json.dumps(nothing[0])}"
                             + ("; give a grammar (GBNF) instead" if name == "response_format" else ""))
    room = model.context - len(ids)
    if room < 1:
        raise ValueError(f"the prompt has {len(ids)} tokens, the model's context is {model.context}: shorten it")
    asked = next((body[own] for own in ("max_completion_tokens", "max_tokens") if body.get(own) is not None), None)
    most = _whole("max_tokens", asked, 1, 10**9) if asked is not None else default.max_tokens
    number = {name: _number(body, name, least, most) for name, (least, most) in {
        "temperature": (0.0, 100.0), "top_p": (0.0, 1.0), "presence_penalty": (-2.0, 2.0),
        "frequency_penalty": (-2.0, 2.0), "repetition_penalty": (0.1, 10.0)}.items()}
    seed = body.get("seed")
    settings = dataclasses.replace(
        default, max_tokens=min(most, default.max_tokens, room),
        seed=random.getrandbits(31) if seed is None else _whole("seed", seed, -2**63, 2**63) % (2**32 - 1),
        top_k=default.top_k if body.get("top_k") is None else _whole("top_k", body["top_k"], 0, 10**9),
        **{name: value for name in ("temperature", "repetition_penalty") if (value := number[name]) is not None},
        **({} if number["top_p"] is None else {"top_p": max(number["top_p"], 1e-6)}))
    completion = model.request(ids, settings)
    completion |= {name: number[name] for name in ("presence_penalty", "frequency_penalty") if number[name] is not None}
    completion |= {"stop": _stops(body.get("stop"))}
    if logprobs >= 0:
        completion["n_probs"] = max(1, logprobs)
    if (grammar := body.get("grammar")) is not None:
        if not isinstance(grammar, str) or len(grammar) > _LONGEST_GRAMMAR or not _is_text(grammar):
            raise ValueError(f"grammar has to be GBNF of at most {_LONGEST_GRAMMAR} characters")
        completion["grammar"] = grammar
    if not isinstance(body.get("stream", False), bool | None):
        raise ValueError("stream has to be true or false")
    options = body.get("stream_options")
    return Request(completion, chatting, body.get("stream") is True,
                   isinstance(options, dict) and options.get("include_usage") is True, logprobs)


def _whole(name: str, value: Any, least: int, most: int) -> int:
    if type(value) is not int or not least <= value <= most:
        raise ValueError(f"{name} has to be a whole number from {least} to {most}")
    return value


def _number(body: Mapping[str, Any], name: str, least: float, most: float) -> float | None:
    value = body.get(name)
    if value is not None and (type(value) not in (int, float) or not least <= value <= most):
        raise ValueError(f"{name} has to be a number from {least:g} to {most:g}")
    return value


def _is_text(value: str) -> bool:
    return "\0" not in value and not any("\ud800" <= character <= "\udfff" for character in value)


def _stops(value: Any) -> list[str]:
    stops = [] if value is None else [value] if isinstance(value, str) else value
    if not isinstance(stops, list) or len(stops) > _MOST_STOPS or not all(
            isinstance(stop, str) and 0 < len(stop) <= _LONGEST_STOP and _is_text(stop) for stop in stops):
        raise ValueError(f"stop has to be a text or up to {_MOST_STOPS}, each of 1 to {_LONGEST_STOP} characters")
    return stops


class ResponseBuilder:
    """An answer in OpenAI's words, from llama.cpp's chunks: as parts of a stream, and whole."""

    def __init__(self, model: str, asked: Request):
        self.asked, self._text, self._tokens, self._finish, self._begun = asked, "", [], None, False
        self._prompt, self._made = len(asked.completion["prompt"]), 0
        kind = "chat.completion" if asked.chat else "text_completion"
        self._about = {"id": f"{'chatcmpl' if asked.chat else 'cmpl'}-{uuid.uuid4().hex}", "object": kind,
                       "created": int(time.time()), "model": model}

    def take(self, chunk: Mapping[str, Any]) -> dict[str, Any]:
        """Remembers a chunk, and says it as a part of the stream."""
        told = {"text": "", "finish_reason": None, "logprobs": None} | dict(*chunk["choices"][:1])
        tokens = (told["logprobs"] or {}).get("content") or []
        self._text += told["text"]
        self._tokens += tokens
        self._finish = told["finish_reason"] or self._finish
        self._made = chunk.get("usage", {}).get("completion_tokens", self._made)
        choice = {"index": 0, "finish_reason": told["finish_reason"], "logprobs": self._logprobs(tokens)}
        if self.asked.chat:
            first = {} if self._begun else {"role": "assistant"}
            choice["delta"] = first | ({"content": told["text"]} if told["text"] or first else {})
            self._begun = True
        else:
            choice["text"] = told["text"]
        return self.part([choice])

    def part(self, choices: list[dict]) -> dict[str, Any]:
        return self._about | ({"object": "chat.completion.chunk"} if self.asked.chat else {}) | {"choices": choices}

    def whole(self) -> dict[str, Any]:
        choice = {"index": 0, "finish_reason": self._finish, "logprobs": self._logprobs(self._tokens)}
        choice |= {"message": {"role": "assistant", "content": self._text}} if self.asked.chat else {"text": self._text}
        return self._about | {"choices": [choice], "usage": self.usage}

    @property
    def usage(self) -> dict[str, int]:
        return {"prompt_tokens": self._prompt, "completion_tokens": self._made,
                "total_tokens": self._prompt + self._made}

    def _logprobs(self, tokens: list[dict]) -> dict | None:
        if self.asked.logprobs < 0:
            return None
        most = self.asked.logprobs
        if self.asked.chat:
            def plain(own: dict) -> dict:
                return {key: own[key] for key in ("token", "bytes", "logprob")}
            return {"content": [plain(own) | {"top_logprobs": [plain(top) for top in own["top_logprobs"][:most]]}
                                for own in tokens]}
        return {"tokens": [own["token"] for own in tokens], "token_logprobs": [own["logprob"] for own in tokens],
                "top_logprobs": [{top["token"]: top["logprob"] for top in own["top_logprobs"][:most]}
                                 for own in tokens],
                "text_offset": []}

"""OpenAI's API format: validates requests and translates them for llama.cpp, and builds the responses."""

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
_LONGEST_PIECE = 32  # characters of a token, a generous bound
# Fields that are done, and those that cannot change an answer. Any other is refused, unless it is null.
_COMMON = {"model", "max_tokens", "max_completion_tokens", "temperature", "top_p", "top_k", "seed", "stop", "stream",
           "stream_options", "presence_penalty", "frequency_penalty", "repetition_penalty", "grammar", "logprobs",
           "user", "safety_identifier", "metadata", "store", "service_tier", "prompt_cache_key"}
_COMPLETION = _COMMON | {"prompt"}
_CHAT = _COMMON | {"messages", "top_logprobs", "add_generation_prompt", "continue_final_message", "parallel_tool_calls"}
_MESSAGE = {"role", "content"}
# The values of other fields that ask for nothing, which clients send by default.
_NEUTRAL: dict[str, tuple] = {
    "n": (1,), "best_of": (1,), "echo": (False,), "suffix": ("",), "logit_bias": ({}, []), "tools": ([],),
    "functions": ([],), "tool_choice": ("none", "auto"), "function_call": ("none", "auto"), "min_p": (0,),
    "typical_p": (1,), "response_format": ({"type": "text"},), "modalities": (["text"],), "ignore_eos": (False,),
    "min_tokens": (0,), "tool_calls": ([],), "annotations": ([],), "refusal": ("",)}


@dataclasses.dataclass(frozen=True)
class Request:
    """A validated request.

    Attributes:
      completion: in llama.cpp's format, with the prompt as ids.
      logprobs: how many of the most likely tokens to return with each; -1: no probabilities.
    """
    completion: dict[str, Any]
    chat: bool
    stream: bool
    include_usage: bool
    logprobs: int


def read_completion(body: Mapping[str, Any], model: LlamaCpp, default: Settings) -> Request:
    """A request to /v1/completions; its prompt is a text, or ids, or a list of one of them.

    Raises:
      ValueError: an invalid request, in a sentence for the client.
    """
    _refuse_others(body, _COMPLETION)
    prompt = body.get("prompt")
    if isinstance(prompt, list) and len(prompt) == 1 and isinstance(prompt[0], str | list):
        prompt, = prompt  # as LangChain sends it
    if isinstance(prompt, str):
        _refuse_long(len(prompt), model)
        ids = [model.tokenizer.end_of_document, *model.tokenizer.encode(prompt)]
    elif isinstance(prompt, list) and prompt and all(type(index) is int for index in prompt):
        size = len(model.tokenizer)
        if not all(0 <= index < size for index in prompt):
            raise ValueError(f"prompt has an id outside of the vocabulary, 0 to {size - 1}")
        ids = prompt
    else:
        raise ValueError("prompt must be a single text, or a list of token ids")
    logprobs = _integer(body, "logprobs", 0, _MOST_LOGPROBS)
    return _request(body, model, default, ids, False, -1 if logprobs is None else logprobs)


def read_chat(body: Mapping[str, Any], model: LlamaCpp, default: Settings) -> Request:
    """A request to /v1/chat/completions.

    Raises:
      ValueError: an invalid request, in a sentence for the client.
    """
    _refuse_others(body, _CHAT)
    messages: Any = body.get("messages")
    if isinstance(messages, list):
        messages = [_plain(message) for message in messages]
        _refuse_long(sum(len(message["content"]) for message in messages if isinstance(message, dict)
                         and isinstance(message.get("content"), str)), model)
    continues = _boolean(body, "continue_final_message")
    replies = not continues if body.get("add_generation_prompt") is None else _boolean(body, "add_generation_prompt")
    if continues and replies:
        raise ValueError("continue_final_message and add_generation_prompt conflict: set one of them")
    ids = chat.encode(model.tokenizer, messages, reply=replies).ids
    if continues:
        if messages[-1]["role"] != "assistant":
            raise ValueError("continue_final_message needs a final message of the assistant")
        del ids[-1]  # the end of its turn
    top = _integer(body, "top_logprobs", 0, _MOST_LOGPROBS)
    if top is not None and not _boolean(body, "logprobs"):
        raise ValueError("top_logprobs needs logprobs=true")
    logprobs = (top or 0) if _boolean(body, "logprobs") else -1
    return _request(body, model, default, ids, True, logprobs)


def _refuse_others(body: Mapping[str, Any], known: set[str], of: str = "") -> None:
    """Raises a `ValueError` for a field that may change the answer and is not supported."""
    for name in sorted(body.keys() - known):
        neutral = _NEUTRAL.get(name, ())
        if body[name] is not None and body[name] not in neutral:
            fix = f", only {name}={json.dumps(neutral[0])}" if neutral else ": remove it"
            hint = "; give a grammar (GBNF) instead" if name == "response_format" else ""
            raise ValueError(f"{name[:40]}{of} is not supported here{fix}{hint}")


def _refuse_long(characters: int, model: LlamaCpp) -> None:
    """Before tokenization, which takes seconds for a megabyte of text."""
    most = _LONGEST_PIECE * model.context
    if characters > most:
        raise ValueError(f"the text has {characters} characters, more than {most}, the most that the model's context "
                         f"of {model.context} tokens can hold: shorten it")


def _plain(message: Any) -> Any:
    """A message with its content as a single text, and the role developer as system."""
    if not isinstance(message, dict):
        return message
    _refuse_others(message, _MESSAGE, " of a message")
    content = message.get("content")
    if isinstance(content, list):
        if not all(isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str)
                   for part in content):
            raise ValueError("a message has content that is not text")
        content = "".join(part["text"] for part in content)
    return {"role": {"developer": "system"}.get(str(message.get("role")), message.get("role")), "content": content}


def _request(body: Mapping[str, Any], model: LlamaCpp, default: Settings, ids: list[int], is_chat: bool,
             logprobs: int) -> Request:
    room = model.context - len(ids)
    if room < 1:
        raise ValueError(f"the prompt has {len(ids)} tokens, the model's context is {model.context}: shorten it")
    newer = body.get("max_completion_tokens") is not None
    longest = _integer(body, "max_completion_tokens" if newer else "max_tokens", 1, 10**9)
    sampling = {"temperature": _number(body, "temperature", 0, 100), "top_p": _number(body, "top_p", 0, 1),
                "repetition_penalty": _number(body, "repetition_penalty", 0.1, 10),
                "top_k": _integer(body, "top_k", 0, 10**9)}
    if sampling["top_p"] is not None:
        sampling["top_p"] = max(sampling["top_p"], 1e-6)
    seed = _integer(body, "seed", -2**63, 2**63)
    settings = dataclasses.replace(
        default, max_tokens=min(longest or default.max_tokens, default.max_tokens, room),
        seed=random.getrandbits(31) if seed is None else seed % (2**32 - 1), **_without_none(sampling))
    completion = model.request(ids, settings) | {"stop": _stops(body.get("stop"))} | _without_none(
        {name: _number(body, name, -2, 2) for name in ("presence_penalty", "frequency_penalty")})
    if logprobs >= 0:
        completion["n_probs"] = max(1, logprobs)
    if (grammar := body.get("grammar")) is not None:
        if not isinstance(grammar, str) or len(grammar) > _LONGEST_GRAMMAR or not _is_text(grammar):
            raise ValueError(f"grammar must be GBNF of at most {_LONGEST_GRAMMAR} characters")
        completion["grammar"] = grammar
    options = body.get("stream_options") or {}
    if not isinstance(options, dict):
        raise ValueError("stream_options must be an object")
    _refuse_others(options, {"include_usage", "include_obfuscation"}, " of stream_options")
    return Request(completion, is_chat, _boolean(body, "stream"), _boolean(options, "include_usage"), logprobs)


def _without_none(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _boolean(body: Mapping[str, Any], name: str) -> bool:
    if not isinstance(body.get(name), bool | None):
        raise ValueError(f"{name} must be true or false")
    return bool(body.get(name))


def _integer(body: Mapping[str, Any], name: str, least: int, most: int) -> int | None:
    value = body.get(name)
    if value is not None and (type(value) is not int or not least <= value <= most):
        raise ValueError(f"{name} must be an integer from {least} to {most}")
    return value


def _number(body: Mapping[str, Any], name: str, least: float, most: float) -> float | None:
    value = body.get(name)
    if value is not None and (type(value) not in (int, float) or not least <= value <= most):
        raise ValueError(f"{name} must be a number from {least:g} to {most:g}")
    return value


def _is_text(value: str) -> bool:
    return "\0" not in value and not any("\ud800" <= character <= "\udfff" for character in value)


def _stops(value: Any) -> list[str]:
    stops = [] if value is None else [value] if isinstance(value, str) else value
    if not isinstance(stops, list) or len(stops) > _MOST_STOPS or not all(
            isinstance(stop, str) and 0 < len(stop) <= _LONGEST_STOP and _is_text(stop) for stop in stops):
        raise ValueError(f"stop must be a text or up to {_MOST_STOPS}, each of 1 to {_LONGEST_STOP} characters")
    return stops


class ResponseBuilder:
    """A response in OpenAI's format from llama.cpp's chunks, as parts of a stream or whole."""

    def __init__(self, model: str, request: Request):
        self.request, self._text, self._finish_reason, self._started = request, "", None, False
        self._tokens: list[dict] = []
        self._prompt_tokens, self._completion_tokens = len(request.completion["prompt"]), 0
        self._header = {"id": f"{'chatcmpl' if request.chat else 'cmpl'}-{uuid.uuid4().hex}",
                        "object": "chat.completion" if request.chat else "text_completion",
                        "created": int(time.time()), "model": model}

    def add(self, chunk: Mapping[str, Any]) -> dict[str, Any]:
        """Adds a chunk to the response; returns it as a part of the stream."""
        new: dict[str, Any] = {"text": "", "finish_reason": None, "logprobs": None} | dict(*chunk["choices"][:1])
        tokens = (new["logprobs"] or {}).get("content") or []
        self._text += new["text"]
        self._tokens += tokens
        self._finish_reason = new["finish_reason"] or self._finish_reason
        self._completion_tokens = chunk.get("usage", {}).get("completion_tokens", self._completion_tokens)
        choice = {"index": 0, "finish_reason": new["finish_reason"], "logprobs": self._logprobs(tokens)}
        if self.request.chat:
            role = {} if self._started else {"role": "assistant"}
            choice["delta"] = role | ({"content": new["text"]} if new["text"] or role else {})
            self._started = True
        else:
            choice["text"] = new["text"]
        return self.part([choice])

    def part(self, choices: list[dict]) -> dict[str, Any]:
        return self._header | ({"object": "chat.completion.chunk"} if self.request.chat else {}) | {"choices": choices}

    def whole(self) -> dict[str, Any]:
        content = ({"message": {"role": "assistant", "content": self._text}} if self.request.chat
                   else {"text": self._text})
        choice = {"index": 0, "finish_reason": self._finish_reason, "logprobs": self._logprobs(self._tokens)}
        return self._header | {"choices": [choice | content], "usage": self.usage}

    @property
    def usage(self) -> dict[str, int]:
        return {"prompt_tokens": self._prompt_tokens, "completion_tokens": self._completion_tokens,
                "total_tokens": self._prompt_tokens + self._completion_tokens}

    def _logprobs(self, tokens: list[dict]) -> dict | None:
        most = self.request.logprobs
        if most < 0:
            return None
        if self.request.chat:
            def plain(token: dict) -> dict:
                return {key: token[key] for key in ("token", "bytes", "logprob")}
            return {"content": [plain(token) | {"top_logprobs": [plain(top) for top in token["top_logprobs"][:most]]}
                                for token in tokens]}
        return {"tokens": [token["token"] for token in tokens],
                "token_logprobs": [token["logprob"] for token in tokens],
                "top_logprobs": [{top["token"]: top["logprob"] for top in token["top_logprobs"][:most]}
                                 for token in tokens],
                "text_offset": []}

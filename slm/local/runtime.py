"""The local runtimes: llama.cpp in this process where there is a GGUF file, the JAX decoder where there is none.

Both are given ids of our tokenizer, and tell text piece by piece. llama.cpp comes with a server of its own, which
always listens; here it listens on a socket file in a folder that only this user can enter, never on a port.
"""

import atexit
import dataclasses
import os
import queue
import shutil
import struct
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from slm.text.tokenizer import END_OF_TURN, Tokenizer, load_tokenizer

TOKENIZER_FOLDER = "tokenizer"
FINGERPRINT = "slm.tokenizer"  # in a GGUF file: of the tokenizer that the model learned with


@dataclasses.dataclass(frozen=True)
class Settings:
    """How an answer is drawn. Temperature 0 takes the likeliest token."""
    max_tokens: int = 512
    temperature: float = 0.7
    top_k: int = 0  # keeps the k likeliest; 0: all
    top_p: float = 0.95  # keeps the likeliest whose probabilities reach p
    repetition_penalty: float = 1.0
    seed: int = 0

    def __post_init__(self):
        if (self.max_tokens < 1 or self.temperature < 0 or self.top_k < 0 or not 0 < self.top_p <= 1
                or self.repetition_penalty <= 0 or not 0 <= self.seed < 2**32 - 1):
            raise ValueError(f"{self}: max_tokens is at least 1, temperature and top_k at least 0, top_p in (0, 1], "
                             "repetition_penalty above 0, seed from 0 to 4294967294")


@dataclasses.dataclass(frozen=True)
class RuntimeConfig:
    """Which model, and how much of the machine it may use."""
    model: str = ""  # an export's or training's workdir, or a GGUF file; empty: the newest export, else training
    threads: int = 0  # of llama.cpp; 0: as many as there are cores
    context: int = 0  # tokens of a conversation; 0: the model's own


class Runtime(Protocol):
    """What a chat needs of a model."""
    name: str
    tokenizer: Tokenizer
    context: int

    def stream(self, prompt: Sequence[int], settings: Settings) -> Iterator[str]:
        """The answer to a prompt, as pieces of text; closing the iterator stops the computation."""


class LlamaCpp:
    """A GGUF file in llama.cpp (xllamacpp), with our tokenizer beside it."""

    def __init__(self, path: Path, tokenizer: Tokenizer | None, context: int = 0, parallel: int = 1, threads: int = 0,
                 exact: bool = False):
        """
        Args:
          context: tokens of one request; 0: the model's own.
          parallel: requests computed together, each with its own memory for `context` tokens.
          exact: keys and values in float32 and plain attention, for comparisons.

        Raises:
          RuntimeError: without xllamacpp, or a file that llama.cpp cannot load.
        """
        if not path.is_file():
            raise FileNotFoundError(f"{path} is missing: make one with python -m slm.main "
                                    "--config=configs/export.py:gguf")
        try:
            import xllamacpp
        except ImportError:
            raise RuntimeError(f"running {path} needs llama.cpp: pip install 'slm[local]'") from None
        self.name, self.tokenizer = path.stem, tokenizer
        self.context = context or stated(path)["context_length"]
        folder = tempfile.mkdtemp(prefix="slm-")  # mode 0700
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        params = xllamacpp.CommonParams()
        params.model.path = str(path)
        params.hostnames = [os.path.join(folder, "llama.sock")]
        params.n_ctx, params.n_parallel, params.kv_unified = self.context * parallel, parallel, False
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads or os.cpu_count() or 1
        params.endpoint_slots = params.endpoint_props = params.endpoint_metrics = params.ui = False
        params.offline, params.warmup, params.verbosity = True, False, -1
        params.cache_ram_mib = 0  # no prompts of earlier requests kept aside
        if exact:
            params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
            params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
        try:
            self._server = xllamacpp.Server(params)
        except RuntimeError:
            raise RuntimeError(f"llama.cpp could not load {path}: the file may be cut short (export it again), or the "
                               f"memory too small for it and a context of {self.context} tokens") from None
        # Closed before its loop has begun it waits for ever; after a request it has begun.
        self.complete({"prompt": [0], "max_tokens": 1}, lambda chunk: True)

    def request(self, prompt: Sequence[int], settings: Settings) -> dict[str, Any]:
        """A completion in llama.cpp's words, for `complete`; its other samplers are off."""
        return {"prompt": [int(index) for index in prompt], "max_tokens": settings.max_tokens, "min_p": 0.0,
                "temperature": settings.temperature, "top_k": settings.top_k, "top_p": settings.top_p,
                "repeat_penalty": settings.repetition_penalty, "repeat_last_n": self.context, "seed": settings.seed}

    def complete(self, request: dict[str, Any], on_chunk: Callable[[dict], bool]) -> None:
        """Runs a request in the words of llama.cpp's completions, its prompt as ids; blocks until it is done.

        Args:
          on_chunk: is given each chunk of the stream, `{"error": …}` among them; True stops the computation.
        """
        self._server.handle_completions(request | {"stream": True}, on_chunk)

    def stream(self, prompt: Sequence[int], settings: Settings) -> Iterator[str]:
        chunks: queue.Queue = queue.Queue()
        stopped = threading.Event()

        def take(chunk: dict) -> bool:
            chunks.put(chunk)
            return stopped.is_set()

        def run() -> None:
            try:
                self.complete(self.request(prompt, settings), take)
            except Exception as error:  # told where the answer is read; its message may hold text
                take({"error": {"message": f"the computation failed ({type(error).__name__})"}})
            finally:
                chunks.put(None)

        worker = threading.Thread(target=run, daemon=True)
        worker.start()
        try:
            while (chunk := chunks.get()) is not None:
                if "error" in chunk:
                    raise ValueError(f"llama.cpp: {chunk['error']['message']}")
                yield from (choice["text"] for choice in chunk["choices"] if choice["text"])
        finally:
            stopped.set()
            worker.join()


class Jax:
    """A training checkpoint on the JAX decoder: the reference, slower, and told whole when it is done."""

    def __init__(self, place: str, context: int = 0):
        from slm import checkpoint, generate
        workdir, step = checkpoint.resolve(place)
        self._params, self._model, self.tokenizer = generate.load(workdir, step)
        self.name, self.context = str(workdir), min(context or self._model.context, self._model.context)

    def stream(self, prompt: Sequence[int], settings: Settings) -> Iterator[str]:
        from slm import generate
        sampler = generate.Sampler(settings.temperature, settings.top_k, settings.top_p, settings.repetition_penalty)
        room = min(settings.max_tokens, self.context - len(prompt))
        if room < 1:
            raise ValueError(f"the conversation has {len(prompt)} tokens, the model's context is {self.context}: begin "
                             "a new one")
        ids, = generate.generate(self._params, self._model, [list(prompt)], room, sampler, settings.seed,
                                 self.tokenizer.special(END_OF_TURN))
        yield self.tokenizer.decode(ids)


def load(config: RuntimeConfig, parallel: int = 1) -> Runtime:
    """The runtime of a model: llama.cpp where there is a GGUF file, else JAX.

    Raises:
      FileNotFoundError: no such model.
    """
    if gguf := find(config.model):
        tokenizer = load_tokenizer(gguf.parent / TOKENIZER_FOLDER)
        made_with = stated(gguf).get("tokenizer", tokenizer.fingerprint)
        if made_with != tokenizer.fingerprint:
            raise ValueError(f"{gguf} was exported with the tokenizer {made_with}, beside it is "
                             f"{tokenizer.fingerprint}: export the model again")
        return LlamaCpp(gguf, tokenizer, config.context, parallel, config.threads)
    return Jax(config.model, config.context)


def find(place: str) -> Path | None:
    """The GGUF file that a path is, or that a folder holds: of several the smallest, which decodes fastest.

    Args:
      place: empty for the one under runs/ that was written last.
    """
    if not place:
        return max(Path("runs").glob("*/*.gguf"), key=lambda path: path.stat().st_mtime, default=None)
    if Path(place).is_file():
        return Path(place)
    return min(Path(place).glob("*.gguf"), key=lambda path: path.stat().st_size, default=None)


# Bytes of a value in a GGUF file, by its type; a text is 8, an array 9.
_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}


def stated(path: Path) -> dict[str, int | str]:
    """`context_length` and, of our own files, the fingerprint `tokenizer`, which a GGUF file states among its first
    values; the gguf package takes seconds to read all."""
    found: dict[str, int | str] = {}
    with open(path, "rb") as file:
        def number(layout: str) -> int:
            return struct.unpack(f"<{layout}", file.read(struct.calcsize(layout)))[0]
        try:
            if file.read(4) == b"GGUF":
                number("I"), number("Q")
                for _ in range(number("Q")):
                    key, kind = file.read(number("Q")).decode(), number("I")
                    if kind not in (8, *_SIZES):  # an array: the vocabulary has begun
                        break
                    value = file.read(number("Q") if kind == 8 else _SIZES[kind])
                    if key.endswith(".context_length"):
                        found["context_length"] = int.from_bytes(value, "little")
                    elif key == FINGERPRINT:
                        found["tokenizer"] = value.decode()
        except (struct.error, UnicodeDecodeError, OverflowError, MemoryError):
            pass
    if not found.get("context_length"):
        raise ValueError(f"{path} is no GGUF file that states its context, or is cut short: export it again with "
                         "python -m slm.main --config=configs/export.py:gguf")
    return found

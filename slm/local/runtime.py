"""The local runtimes: llama.cpp in this process if there is a GGUF file, otherwise the JAX decoder.

Both take ids of our tokenizer and stream text. llama.cpp's server always listens; here it listens on a socket file in a
folder that only this user can enter, never on a port, and the file is removed once it is up.
"""

import contextlib
import dataclasses
import os
import queue
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any, Protocol

from slm import locks
from slm.inference.sampling import Settings
from slm.local.gguf_metadata import read_gguf_metadata
from slm.text.tokenizer import END_OF_TURN, Tokenizer, load_tokenizer
from slm.workdir import RUNS

TOKENIZER_FOLDER = "tokenizer"
_SOCKETS = "slm-llama-"  # of folders under /tmp
_ABANDONED_SECONDS = 60.0  # a younger folder may not be locked yet


@dataclasses.dataclass(frozen=True)
class RuntimeConfig:
    """Which model, and how much of the machine it may use."""
    model: str = ""  # an export's or training's workdir, or a GGUF file; empty: the newest export, else training
    threads: int = 0  # of llama.cpp; 0: one per idle core, and at least half of all
    context: int = 0  # tokens of a conversation; 0: as many as the model can


class Runtime(Protocol):
    """What a chat needs from a model."""
    name: str
    tokenizer: Tokenizer
    context: int

    def stream(self, prompt: Sequence[int], settings: Settings) -> Generator[str, None, None]:
        """The answer to a prompt, as parts of text; closing the generator stops the computation."""


class LlamaCpp:
    """A GGUF file in llama.cpp (xllamacpp), with our tokenizer beside it."""

    def __init__(self, path: Path, tokenizer: Tokenizer, context: int = 0, parallel: int = 1, threads: int = 0,
                 exact: bool = False):
        """
        Args:
          context: tokens of one request; 0: as many as the model can.
          parallel: requests computed together, each with memory for `context` tokens.
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
        self.context = usable_context(context, read_gguf_metadata(path).context_length)
        _remove_abandoned()
        folder = Path(tempfile.mkdtemp(prefix=_SOCKETS))  # mode 0700
        params = xllamacpp.CommonParams()
        params.model.path = str(path)
        params.hostnames = [str(folder / "llama.sock")]
        params.n_ctx, params.n_parallel, params.kv_unified = self.context * parallel, parallel, False
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads or _idle_cores()
        params.endpoint_slots = params.endpoint_props = params.endpoint_metrics = params.ui = False
        params.offline, params.warmup, params.verbosity = True, False, -1
        params.cache_ram_mib = 0  # keeps no prompts of earlier requests
        if exact:
            params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
            params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
        try:
            with locks.locked(folder):
                self._server = xllamacpp.Server(params)
                # Closing the server before its loop has begun would hang; after a request it has begun.
                self.complete({"prompt": [0], "max_tokens": 1}, lambda chunk: True)
        except RuntimeError:
            raise RuntimeError(f"llama.cpp could not load {path}: the file may be cut short (export it again), or the "
                               f"memory too small for it and a context of {self.context} tokens") from None
        finally:
            shutil.rmtree(folder, ignore_errors=True)  # nobody connects, and a killed process would leave it

    def request(self, prompt: Sequence[int], settings: Settings) -> dict[str, Any]:
        """A request for `complete` that draws as `slm.inference.engine.draw`.

        Raises:
          ValueError: the prompt leaves no room for an answer; llama.cpp rounds the context up to a multiple of 256.
        """
        room = self.context - len(prompt)
        if room < 1:
            raise ValueError(f"the prompt has {len(prompt)} tokens, which exceeds the available context size of "
                             f"{self.context}: shorten it")
        # By default llama.cpp takes the nucleus before the temperature. Its other samplers are left out.
        return {"prompt": [int(index) for index in prompt], "max_tokens": min(settings.max_tokens, room),
                "samplers": ["penalties", "temperature", "top_p", "top_k"], "temperature": settings.temperature,
                "top_k": settings.top_k, "top_p": settings.top_p, "repeat_penalty": settings.repetition_penalty,
                "repeat_last_n": self.context, "seed": settings.seed}

    def complete(self, request: dict[str, Any], on_chunk: Callable[[dict], bool]) -> None:
        """Runs a request in llama.cpp's completion format, its prompt as ids; blocks until it is done.

        Args:
          on_chunk: called with each chunk of the stream, `{"error": …}` among them; returns True to stop.
        """
        self._server.handle_completions(request | {"stream": True}, on_chunk)

    def stream(self, prompt: Sequence[int], settings: Settings) -> Generator[str, None, None]:
        request, chunks = self.request(prompt, settings), queue.Queue[dict | None]()
        stopped = threading.Event()

        def take(chunk: dict) -> bool:
            chunks.put(chunk)
            return stopped.is_set()

        def run() -> None:
            try:
                self.complete(request, take)
            except Exception as error:  # raised where the answer is read; its own message may hold text
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
    """A training checkpoint on the JAX decoder: the reference; slower, and the answer comes all at once."""

    def __init__(self, name: str, context: int = 0):
        from slm import checkpoint
        from slm.inference.engine import Engine
        workdir, step = checkpoint.resolve(name)
        self._engine, self.tokenizer = Engine.load(workdir, step)
        self.name = str(workdir)
        self.context = usable_context(context, self._engine.model_config.context)

    def stream(self, prompt: Sequence[int], settings: Settings) -> Generator[str, None, None]:
        room = min(settings.max_tokens, self.context - len(prompt))
        if room < 1:
            raise ValueError(f"the conversation has {len(prompt)} tokens, the model's context is {self.context}: begin "
                             "a new one")
        ids, = self._engine.generate([prompt], room, settings, self.tokenizer.special(END_OF_TURN), settings.seed)
        yield self.tokenizer.decode(ids)


def usable_context(context: int, model_context: int) -> int:
    """The context that a config sets, by default the model's.

    Raises:
      ValueError: it is negative or more than the model's.
    """
    if not 0 <= context <= model_context:
        raise ValueError(f"runtime.context={context} and the model's context of {model_context} conflict: set it to at "
                         "most that, or to 0 for all of it")
    return context or model_context


def _remove_abandoned() -> None:
    """Removes folders of processes that were killed while they loaded a model."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_SOCKETS}*"):
        with contextlib.suppress(OSError, RuntimeError):  # another user's, or one in use
            if time.time() - folder.stat().st_mtime > _ABANDONED_SECONDS:
                with locks.locked(folder):
                    shutil.rmtree(folder)


def _idle_cores() -> int:
    """Cores that this process may use and that others leave idle: llama.cpp's threads wait by spinning."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // 2, cores - round(os.getloadavg()[0]))


def load(config: RuntimeConfig, parallel: int = 1) -> Runtime:
    """The runtime of a model: llama.cpp if there is a GGUF file, otherwise JAX.

    Raises:
      FileNotFoundError: no such model.
    """
    gguf = find(config.model)
    return load_gguf(gguf, config, parallel) if gguf else Jax(config.model, config.context)


def load_gguf(path: Path, config: RuntimeConfig, parallel: int = 1, tokenizer: Tokenizer | None = None) -> LlamaCpp:
    """
    Args:
      tokenizer: that of `tokenizer_of`, if it has been read already.
    """
    return LlamaCpp(path, tokenizer or tokenizer_of(path), config.context, parallel, config.threads)


def tokenizer_of(path: Path) -> Tokenizer:
    """The tokenizer beside a GGUF file.

    Raises:
      ValueError: it is not the one that the file was exported with.
    """
    tokenizer = load_tokenizer(path.parent / TOKENIZER_FOLDER)
    fingerprint = read_gguf_metadata(path).tokenizer
    if fingerprint not in (None, tokenizer.fingerprint):
        raise ValueError(f"{path} was exported with the tokenizer {fingerprint}, beside it is "
                         f"{tokenizer.fingerprint}: export the model again")
    return tokenizer


def find(name: str) -> Path | None:
    """The GGUF file that a setting names, itself or by its folder: of several the smallest, which decodes fastest.

    Args:
      name: empty for the one under runs/ that was written last.
    """
    if not name:
        return max(RUNS.glob("*/*.gguf"), key=lambda path: path.stat().st_mtime, default=None)
    if Path(name).is_file():
        return Path(name)
    return min(Path(name).glob("*.gguf"), key=lambda path: path.stat().st_size, default=None)

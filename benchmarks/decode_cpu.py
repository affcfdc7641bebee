"""Decoding on CPU, batch 1: llama.cpp, our decoder and transformers on the same random weights, with the goals.

    .venv/bin/python -m benchmarks.decode_cpu                                   # the 1.2B preset: 13 GB of memory, 8 of disk
    .venv/bin/python -m benchmarks.decode_cpu --preset=debug --prompt=32 --new=16  # a look

Each contender runs in a process of its own, one after the other, so that its peak of memory (ru_maxrss) is its own:

- llama.cpp, `slm.local.runtime.LlamaCpp` on the files of `slm.export.gguf.write`;
- ours, `slm.generate.generate` in float32 with unrolled layers, as it decodes for users;
- transformers in float32, on the folder of `slm.export.hugging_face`, with its own attention (sdpa) and KV cache.

Decoding is greedy and counted after the first new token; prefill is the time to that token, which for ours holds a
copy of the weights as well, made once a call. Each number is the median of the repeats; compiling and the first request
are not counted. Ours and transformers must decode the same tokens, else the command fails; of llama.cpp's, which are
of rounded weights, it tells how many agree before the first that differs.

The memory bandwidth is that of reading: a thread for each core takes the maximum of 2 GB of float32 of its own, the
best of all rounds before and after the contenders. Its share is the bytes of all matrices but the embedding table, in
the type they are stored in, times tokens a second, over the bandwidth. The keys and values, the norms, and the zeros
that make our MLP llama.cpp's (`slm.export.gguf`) are read too and not counted.

Use an idle machine: everything here waits for memory. Linux.
"""

import argparse
import dataclasses
import functools
import json
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from slm.memory import keep_freed_memory
from slm.model.presets import PRESETS, ModelConfig, parameter_count

GGUF_TYPES = ("q8_0", "q4_0")
BANDWIDTH, LLAMA_CPP, OURS, TRANSFORMERS = "bandwidth", "llama.cpp", "ours", "transformers"
SHARE_GOAL = {f"{LLAMA_CPP} q8_0": 0.5, OURS: 0.75}
RATIO_GOAL = 1.5
HEADER = ("| | prefill, tokens/s | decode, tokens/s | MB a token | share of bandwidth | peak memory, GB "
          "| tokens as ours |\n|---|" + "---:|" * 6)


@dataclasses.dataclass(frozen=True)
class Measured:
    """What one contender tells of itself; rates are the medians of the repeats."""
    prefill: float  # tokens a second
    decode: float  # tokens a second
    bytes_read: int  # of weights, a token
    tokens: list[int]  # the new ones
    versions: str
    peak: int = 0  # bytes of memory


class Vocabulary:
    """As many made-up pieces as a model has ids, in the place of a tokenizer: `gguf.write` wants one."""
    unknown, end_of_document = 0, 1

    def __init__(self, size: int):
        self._size = size

    def __len__(self) -> int:
        return self._size

    def special(self, symbol: str) -> int:
        return 2

    def pieces(self, ids) -> list[str]:
        return [f"<{index}>" for index in ids]

    def scores(self) -> list[float]:
        return [0.0] * self._size

    def is_byte(self, index: int) -> bool:
        return False

    def is_special(self, index: int) -> bool:
        return index in (1, 2)


# The workers: each is a process --------------------------------------------------------------------------------------

def bandwidth(options) -> float:
    """Bytes a second."""
    from concurrent.futures import ThreadPoolExecutor

    import numpy as np
    cores = len(os.sched_getaffinity(0))
    parts = [np.ones(500_000_000, np.float32) for _ in range(cores)]
    seconds = []
    with ThreadPoolExecutor(cores) as pool:
        for _ in range(8):
            start = time.perf_counter()
            list(pool.map(np.max, parts))
            seconds.append(time.perf_counter() - start)
    return cores * parts[0].nbytes / min(seconds)


def write_weights(options) -> None:
    """One set of random weights in the formats of llama.cpp and of transformers."""
    import numpy as np

    from slm.export import gguf, hugging_face
    model = model_of(options)
    params = random_params(model)
    hugging_face.write_weights(Path(options.folder) / "model", params, model)
    for kind in GGUF_TYPES:
        gguf.write(Path(options.folder) / f"{kind}.gguf", params, model, Vocabulary(model.vocabulary_size), kind, kind)


def llama_cpp(options) -> Measured:
    import gguf
    import xllamacpp

    from slm.local.runtime import LlamaCpp, Settings
    path = Path(options.folder) / f"{options.kind}.gguf"
    matrices = sum(int(tensor.n_bytes) for tensor in gguf.GGUFReader(path).tensors
                   if len(tensor.shape) == 2 and tensor.name != "token_embd.weight" and ".ffn_up." not in tensor.name)
    runtime = LlamaCpp(path, None, context=options.prompt + options.new)
    request = runtime.request(prompt_of(options), Settings(max_tokens=options.new, temperature=0.0)) | {
        "ignore_eos": True, "cache_prompt": False, "n_probs": 1}
    chunks = []
    runtime.complete(request, lambda chunk: chunks.append(chunk))
    print(json.dumps(chunks[:3] + chunks[-2:], indent=1), file=sys.stderr)
    raise SystemExit


WORKERS = {}

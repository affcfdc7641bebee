"""Decoding on CPU, batch 1: llama.cpp, our decoder and transformers on the same random weights, with the goals.

    .venv/bin/python -m benchmarks.decode_cpu  # 1.2B; takes 17 GB of memory, 12 of disk, seven minutes
    .venv/bin/python -m benchmarks.decode_cpu --preset=debug --prompt=32 --new=16  # a look

Each candidate runs in a process of its own, one after the other, so that its peak of memory (ru_maxrss) is its own:

- llama.cpp, `slm.local.runtime.LlamaCpp` on the files of `slm.export.gguf.write`;
- ours, `slm.inference.engine.Engine` in float32 with unrolled layers, as it decodes for users;
- transformers in float32, on the folder of `slm.export.hugging_face`, with its own attention (sdpa) and KV cache.

Decoding is greedy and counted after the first new token; prefill is the time to that token. Each number is the median
of the repeats; compiling and the first request are not counted. Ours and transformers must decode the same tokens, else
the command fails; of llama.cpp's, which are of rounded weights, it tells how many come before the first that differs.

The memory bandwidth is that of reading: a thread for each core takes the maximum of 1 GB of float32 of its own (a sum
is bound by its additions), 30 times before and after each candidate; the median of all. Its share is the bytes of all
matrices but the embedding table, in the type they are stored in, times tokens a second, over the bandwidth. The keys
and values, the norms, and the zeros that make our MLP llama.cpp's (`slm.export.gguf`) are read too and not counted.

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
from importlib.metadata import version
from pathlib import Path

from slm.model.presets import PRESETS, ModelConfig, parameter_count
from slm.process import keep_freed_memory

GGUF_TYPES = ("q8_0", "q4_0")
LLAMA_CPP, OURS, TRANSFORMERS = "llama.cpp", "ours", "transformers"
SHARE_GOALS = {f"{LLAMA_CPP} q8_0": 0.5, OURS: 0.75}
RATIO_GOAL = 1.5
BEFORE = 4  # tokens that ours decodes in both of the runs whose difference is counted
HEADER = ("| | prefill, tokens/s | decode, tokens/s | MB a token | share of bandwidth | peak memory, GB "
          "| tokens as ours |\n|---|" + "---:|" * 6)


@dataclasses.dataclass(frozen=True)
class Measured:
    """What one candidate tells of itself; rates are the medians of the repeats."""
    prefill: float  # tokens a second
    decode: float  # tokens a second
    bytes_read: int  # of weights, a token
    tokens: list[int]  # the new ones
    versions: str
    peak: int = 0  # bytes of memory


class Vocabulary:
    """As many made-up pieces as a model has ids, in the place of a tokenizer: `gguf.write` wants one."""
    unknown, end_of_document, fingerprint = 0, 1, "random"

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

def bandwidth(options) -> list[float]:
    """Bytes a second, of each round."""
    from concurrent.futures import ThreadPoolExecutor

    import numpy as np
    cores = len(os.sched_getaffinity(0))
    parts = [np.ones(250_000_000, np.float32) for _ in range(cores)]
    seconds = []
    with ThreadPoolExecutor(cores) as pool:
        for _ in range(30):
            start = time.perf_counter()
            list(pool.map(np.max, parts))
            seconds.append(time.perf_counter() - start)
    return [cores * parts[0].nbytes / second for second in seconds]


def write_weights(options) -> None:
    """One set of random weights in the formats of the candidates."""
    import jax
    import numpy as np

    from slm.export import gguf, hugging_face
    from slm.model import decoder
    folder, model = Path(options.folder), PRESETS[options.preset]
    params = jax.jit(functools.partial(decoder.initialize, model))(jax.random.key(0))
    for index, leaf in enumerate(jax.tree.leaves(params)):
        np.save(folder / f"{index}.npy", np.asarray(leaf))
    (folder / "model").mkdir()
    hugging_face._write_weights(folder / "model", params, model, "float32", shard_bytes=2_000_000_000)
    (folder / "model/config.json").write_text(json.dumps(hugging_face._config(model, "float32")))
    for kind in GGUF_TYPES:
        gguf.write(folder / f"{kind}.gguf", params, model, Vocabulary(model.vocabulary_size), kind, kind)


def prompt_of(options) -> list[int]:
    import numpy as np
    return np.random.default_rng(0).integers(3, PRESETS[options.preset].vocabulary_size, options.prompt).tolist()


def llama_cpp(options, kind: str) -> Measured:
    import gguf

    from slm.inference.sampling import Settings
    from slm.local.runtime import LlamaCpp
    path = Path(options.folder) / f"{kind}.gguf"
    bytes_read = sum(int(tensor.n_bytes) for tensor in gguf.GGUFReader(path).tensors if len(tensor.shape) == 2
                     and tensor.name != "token_embd.weight" and not is_zero(tensor.name, options))
    runtime = LlamaCpp(path, Vocabulary(PRESETS[options.preset].vocabulary_size), context=options.prompt + options.new)
    request = runtime.request(prompt_of(options), Settings(max_tokens=options.new, temperature=0.0))
    request |= {"ignore_eos": True, "cache_prompt": False}

    def once():
        tokens, times = [], [time.perf_counter()]

        def take(chunk: dict) -> bool:
            if "error" in chunk:
                raise RuntimeError(f"llama.cpp: {chunk['error']['message']}")
            if text := chunk["choices"][0]["text"]:
                tokens.append(int(text[1:-1]))
                times.append(time.perf_counter())
            return False
        runtime.complete(request, take)
        return tokens, times[1] - times[0], (len(tokens) - 1) / (times[-1] - times[1])
    return repeat(options, once, bytes_read, f"xllamacpp {version('xllamacpp')}")


def is_zero(name: str, options) -> bool:
    return name.endswith("ffn_up.weight") and PRESETS[options.preset].mlp == "silu"


def ours(options) -> Measured:
    import jax
    import jax.numpy as jnp
    import numpy as np

    from slm.inference.engine import Engine
    from slm.inference.sampling import GREEDY
    from slm.model import decoder
    model = dataclasses.replace(PRESETS[options.preset], compute_dtype="float32", scan_layers=False, remat="none")
    shapes = jax.eval_shape(functools.partial(decoder.initialize, model), jax.random.key(0))
    stored = [np.load(Path(options.folder) / f"{index}.npy", mmap_mode="r")
              for index in range(len(jax.tree.leaves(shapes)))]
    params = jax.tree.map(jnp.asarray, decoder.unrolled(jax.tree.unflatten(jax.tree.structure(shapes), stored)))
    prompt, engine = prompt_of(options), Engine(params, model)

    def decode(new_tokens: int):
        start = time.perf_counter()
        tokens, = engine.generate([prompt], new_tokens, GREEDY, end=-1)  # no token ends it
        return tokens, time.perf_counter() - start

    def once():
        _, prefill = decode(1)
        _, short = decode(BEFORE)
        tokens, long = decode(BEFORE + options.new)
        return tokens[:options.new], prefill, options.new / (long - short)
    return repeat(options, once, 4 * matrix_parameters(model), f"jax {version('jax')}")


def transformers(options) -> Measured:
    import torch
    import transformers
    transformers.utils.logging.disable_progress_bar()
    model = transformers.AutoModelForCausalLM.from_pretrained(
        Path(options.folder) / "model", dtype=torch.float32, local_files_only=True).eval()
    prompt = torch.tensor([prompt_of(options)])

    @torch.inference_mode()
    def once():
        cache, token, tokens, times = transformers.DynamicCache(), prompt, [], [time.perf_counter()]
        for _ in range(options.new):
            scores = model(input_ids=token, past_key_values=cache, use_cache=True, logits_to_keep=1).logits
            token = scores[:, -1].argmax(-1, keepdim=True)
            tokens.append(token.item())
            times.append(time.perf_counter())
        return tokens, times[1] - times[0], (options.new - 1) / (times[-1] - times[1])
    return repeat(options, once, 4 * matrix_parameters(PRESETS[options.preset]),
                  f"transformers {version('transformers')}, torch {version('torch')}")


def matrix_parameters(model: ModelConfig) -> int:
    """Of all matrices but the embedding table, of which a token reads one row."""
    return parameter_count(model) - (model.vocabulary_size + 2 * model.layers + 1) * model.width


def repeat(options, once, bytes_read: int, versions: str) -> Measured:
    """Calls `once` → (tokens, seconds to the first, tokens a second after it), the first time for nothing."""
    once()
    tokens, prefill, decode = zip(*(once() for _ in range(options.repeats)))
    return Measured(options.prompt / statistics.median(prefill), statistics.median(decode), bytes_read, tokens[-1],
                    versions, 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


CONTENDERS = {**{f"{LLAMA_CPP} {kind}": functools.partial(llama_cpp, kind=kind) for kind in GGUF_TYPES},
              OURS: ours, TRANSFORMERS: transformers}
WORKERS = {"bandwidth": bandwidth, "write": write_weights, **CONTENDERS}


# The parent ---------------------------------------------------------------------------------------------------------

def work(options, name: str, folder: str):
    """What a worker prints as its last line."""
    command = [sys.executable, "-m", "benchmarks.decode_cpu", f"--worker={name}", f"--folder={folder}",
               *(f"--{flag}={getattr(options, flag)}" for flag in ("preset", "prompt", "new", "repeats"))]
    done = subprocess.run(command, env={**os.environ, "JAX_PLATFORMS": "cpu"}, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"error: worker {name!r} failed, see above")
    return json.loads(done.stdout.splitlines()[-1])


def measure(options) -> tuple[list[float], dict[str, Measured]]:
    """The bandwidth of each round, and what each candidate tells of itself."""
    with tempfile.TemporaryDirectory(prefix="decode-", dir=options.folder) as folder:
        work(options, "write", folder)
        rates, found = work(options, "bandwidth", folder), {}
        for name in CONTENDERS:
            found[name] = Measured(**work(options, name, folder))
            rates += work(options, "bandwidth", folder)
        return rates, found


def share(own: Measured, bytes_per_second: float) -> float:
    return own.bytes_read * own.decode / bytes_per_second


def same_beginning(tokens: list[int], others: list[int]) -> int:
    return next((i for i, (a, b) in enumerate(zip(tokens, others)) if a != b), min(len(tokens), len(others)))


def table(options, found: dict[str, Measured], bytes_per_second: float) -> str:
    rows = [f"| {name} | {own.prefill:,.1f} | {own.decode:,.2f} | {own.bytes_read / 1e6:,.1f} "
            f"| {share(own, bytes_per_second):.0%} | {own.peak / 1e9:.2f} "
            f"| {same_beginning(own.tokens, found[OURS].tokens)} of {options.new} |" for name, own in found.items()]
    return "\n".join([HEADER, *rows])


def goals(found: dict[str, Measured], bytes_per_second: float) -> str:
    rows = [(f"{name}, share of bandwidth", share(found[name], bytes_per_second), goal)
            for name, goal in SHARE_GOALS.items()]
    rows.append((f"{OURS} / {TRANSFORMERS}, decode", found[OURS].decode / found[TRANSFORMERS].decode, RATIO_GOAL))
    lines = [f"| {what} | {value:.2f} | {goal:.2f} | {'met' if value >= goal else 'MISSED'} |"
             for what, value, goal in rows]
    return "\n".join(["| | measured | goal | |", "|---|---:|---:|---|", *lines])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="ncvc_slm_1", choices=PRESETS)
    parser.add_argument("--prompt", type=int, default=128, help="tokens, at random")
    parser.add_argument("--new", type=int, default=32, help="tokens decoded")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--folder", help="where a temporary folder for the weights is made")
    parser.add_argument("--worker", choices=WORKERS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        if options.worker in CONTENDERS and options.worker != TRANSFORMERS:
            keep_freed_memory()  # as slm.main does
        result = WORKERS[options.worker](options)
        print(json.dumps(dataclasses.asdict(result) if isinstance(result, Measured) else result))
        return
    context = PRESETS[options.preset].context
    if options.prompt < 1 or options.new < 2 or options.repeats < 1 or options.prompt + BEFORE + options.new > context:
        parser.error(f"prompt={options.prompt}, new={options.new}, repeats={options.repeats}: give at least 1, 2 and "
                     f"1, and prompt + new at most {context - BEFORE} with {options.preset}")
    with open("/proc/cpuinfo") as file:
        cpu = re.search(r"model name\s*: (.*)|$", file.read())[1] or "unknown CPU"
    load = os.getloadavg()[0]
    print(f"{cpu}, {len(os.sched_getaffinity(0))} cores, load {load:.1f} at the start"
          f"{': NOT IDLE, the shares mean little' if load > 0.5 else ''}", flush=True)
    rates, found = measure(options)
    bytes_per_second = statistics.median(rates)
    print(f"{options.preset}, {parameter_count(PRESETS[options.preset]):,} parameters; a prompt of {options.prompt} "
          f"tokens, {options.new} new ones; medians of {options.repeats}\n"
          f"{'; '.join(dict.fromkeys(own.versions for own in found.values()))}\n"
          f"read bandwidth {bytes_per_second / 1e9:.1f} GB/s, over the run {min(rates) / 1e9:.1f} to "
          f"{max(rates) / 1e9:.1f}\n\n"
          f"{table(options, found, bytes_per_second)}\n\n{goals(found, bytes_per_second)}", flush=True)
    same = same_beginning(found[TRANSFORMERS].tokens, found[OURS].tokens)
    if same < options.new:
        sys.exit(f"error: ours and transformers decode the same tokens only up to {same} of {options.new}: they are "
                 "not the same model, the figures mean nothing")


if __name__ == "__main__":
    main()

"""Our training step on CPU against transformers' LlamaForCausalLM in torch eager: tokens per second and their ratio.

torch and transformers are no dependencies of slm, they live in an environment of their own. From the project's folder:

    python3 -m venv ../torch
    ../torch/bin/pip install torch transformers --extra-index-url https://download.pytorch.org/whl/cpu
    .venv/bin/python -m benchmarks.train_cpu --torch-python=../torch/bin/python                  # AdamW on both sides
    .venv/bin/python -m benchmarks.train_cpu --torch-python=../torch/bin/python --optimizer=muon  # in ours
    .venv/bin/python -m benchmarks.train_cpu --torch-python=../torch/bin/python --rounds=2 --shapes=8x512  # a look

Three workers take turns, a step each: ours, `slm.train.step.train` of the laptop preset, jitted with donation, after
`keep_freed_memory()`; torch, a Llama of the same widths, heads and vocabulary, untied, whose SwiGLU has as many
parameters as our MLP (to a multiple of 8, which torch likes), with AdamW; and torch again, under the malloc settings
of `keep_freed_memory()`. The inputs are the same, all is float32. Ours does more: rows are packed documents that do
not see each other (torch has the causal mask only), z-loss, gradient clipping, and the check that skips a spike.

Use an idle machine (Linux). Turns even out slow drifts, but other load slows torch, whose OpenMP threads spin while
they wait for each other, several times more than ours.
"""

import argparse
import contextlib
import dataclasses
import json
import os
import re
import statistics
import subprocess
import sys
import time

TUNED_MALLOC = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "4000000000", "MALLOC_ARENA_MAX": "1"}
HEADER = ("| batch | ours, tokens/s | torch | torch, tuned malloc | ours/torch | ours/torch tuned | our parameters "
          "| torch's |\n|" + "---:|" * 8)
WARM_UP_STEPS = 3


def our_step(options, shape):
    """(a function that makes one training step, number of parameters, versions) of slm."""
    from slm.process import keep_freed_memory
    keep_freed_memory()
    import jax
    import numpy as np

    from slm.model.presets import ModelConfig, parameter_count
    from slm.train import optimizer, step

    model = ModelConfig(**json.loads(options.model))
    inputs = np.random.default_rng(0).integers(0, model.vocabulary_size, shape).astype(np.int32)
    first, here = np.random.default_rng(1).random(shape) < 0.01, np.arange(shape[1])  # 100 tokens a document
    positions = here - np.maximum.accumulate(np.where(first, here, 0), axis=1)
    batch = {"inputs": inputs, "targets": np.roll(inputs, -1, axis=1), "loss_mask": np.ones(shape, np.float32),
             "segments": 1 + np.cumsum(first, axis=1, dtype=np.int32), "positions": positions.astype(np.int32)}
    transformation = optimizer.build(optimizer.OptimizerConfig(name=options.optimizer), steps=1000)
    train = jax.jit(lambda state, batch: step.train(
        state, batch, config=step.StepConfig(), model=model, optimizer=transformation),
                    donate_argnums=0)
    state = jax.jit(lambda key: step.initial_state(model, transformation, key))(jax.random.key(0))

    def one_step():
        nonlocal state
        state, metrics = train(state, batch)
        jax.block_until_ready((state, metrics))

    return one_step, parameter_count(model), f"jax {jax.__version__}"


def torch_step(options, shape):
    """The same of torch; imports nothing of slm or jax."""
    import numpy as np
    import torch
    import transformers

    ours = argparse.Namespace(**json.loads(options.model))
    mlp_width = ours.mlp_width if ours.mlp == "swiglu" else 8 * round(ours.mlp_width * 2 / 3 / 8)
    config = transformers.LlamaConfig(
        vocab_size=ours.vocabulary_size, hidden_size=ours.width, intermediate_size=mlp_width,
        num_hidden_layers=ours.layers, num_attention_heads=ours.query_heads, num_key_value_heads=ours.kv_heads,
        head_dim=ours.head_size, max_position_embeddings=ours.context, rms_norm_eps=ours.norm_epsilon,
        tie_word_embeddings=False, use_cache=False, attn_implementation=options.torch_attention)
    model = transformers.LlamaForCausalLM(config).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4, betas=(0.9, 0.95), weight_decay=0.1)
    inputs = torch.from_numpy(np.random.default_rng(0).integers(0, ours.vocabulary_size, shape))

    def one_step():
        model(input_ids=inputs, labels=inputs).loss.backward()  # it shifts the labels itself
        optimizer.step()
        optimizer.zero_grad()

    return one_step, model.num_parameters(), (
        f"torch {torch.__version__} with {torch.get_num_threads()} threads, transformers {transformers.__version__} "
        f"with {options.torch_attention} attention")


def work(options) -> None:
    """A line about itself, then a step for each line on stdin, whose seconds it prints."""
    one_step, parameters, versions = (our_step if options.worker == "ours" else torch_step)(options, options.shapes[0])
    for _ in range(WARM_UP_STEPS):
        one_step()
    print(json.dumps({"parameters": parameters, "versions": versions}), flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        one_step()
        print(time.perf_counter() - start, flush=True)


def measure(options, shape) -> tuple[dict[str, dict], dict[str, float]]:
    """What each worker says of itself, and its median tokens a second."""
    from slm.model.presets import PRESETS
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_TUNABLES"))}
    script = ["-m", "benchmarks.train_cpu", f"--shapes={shape[0]}x{shape[1]}", f"--optimizer={options.optimizer}",
              f"--torch-attention={options.torch_attention}",
              f"--model={json.dumps(dataclasses.asdict(PRESETS['laptop']))}"]
    torch = [options.torch_python, *script, "--worker=torch"]
    commands = {"ours": ([sys.executable, *script, "--worker=ours"], {**plain, "JAX_PLATFORMS": "cpu"}),
                "torch": (torch, plain), "tuned": (torch, {**plain, **TUNED_MALLOC})}
    workers, about, seconds = {}, {}, {name: [] for name in commands}

    def answer(name):
        return json.loads(workers[name].stdout.readline() or sys.exit(f"error: worker {name!r} died, see above"))

    with contextlib.ExitStack() as stack:  # its end closes the workers' stdin, which ends them
        for name, (command, environment) in commands.items():
            workers[name] = stack.enter_context(subprocess.Popen(
                command, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE))
            about[name] = answer(name)
        for _ in range(options.rounds):
            for name, worker in workers.items():
                time.sleep(0.05)  # until the threads of the worker before have stopped spinning
                print(file=worker.stdin, flush=True)
                seconds[name].append(answer(name))
    return about, {name: shape[0] * shape[1] / statistics.median(seconds[name]) for name in seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--torch-python", default=sys.executable, help="interpreter that has torch and transformers")
    parser.add_argument("--torch-attention", default="sdpa", choices=["sdpa", "eager"], help="sdpa is its default")
    parser.add_argument("--optimizer", default="adamw", choices=["adamw", "muon"], help="of ours")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--shapes", default="8x512,16x256", help="ROWSxTOKENS, …",
                        type=lambda text: [tuple(map(int, shape.split("x"))) for shape in text.split(",")])
    for internal in ("--worker", "--model"):
        parser.add_argument(internal, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        return work(options)
    with open("/proc/cpuinfo") as file:
        cpu = re.search(r"model name\s*: (.*)|$", file.read())[1] or "unknown CPU"
    load = os.getloadavg()[0]
    print(f"{cpu}, {len(os.sched_getaffinity(0))} cores, load {load:.1f} at the start"
          f"{': NOT IDLE, the ratios mean little' if load > 0.5 else ''}; {options.rounds} rounds; {options.optimizer} "
          "in ours, adamw in torch")
    for shape in options.shapes:
        about, rate = measure(options, shape)
        if shape == options.shapes[0]:
            print(f"{about['ours']['versions']}; {about['torch']['versions']}\n\n{HEADER}")
        print(f"| {shape[0]}×{shape[1]} | {rate['ours']:,.0f} | {rate['torch']:,.0f} | {rate['tuned']:,.0f} "
              f"| {rate['ours'] / rate['torch']:.2f} | {rate['ours'] / rate['tuned']:.2f} "
              f"| {about['ours']['parameters']:,} | {about['torch']['parameters']:,} |", flush=True)


if __name__ == "__main__":
    main()

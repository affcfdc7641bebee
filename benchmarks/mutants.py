"""Mutation campaign: does a test fail when the code is wrong?

Each mutant is one change of a line in a copy of the repository; the fast tests of its package run until one fails.
A mutant that no test notices survives. `python benchmarks/mutants.py [FIRST LAST]` prints a line each.
"""

import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
# Source file: tests that should notice, those of the file itself first.
TESTS = {
    "slm/model/attention.py": "tests/model/test_attention.py",
    "slm/model/lora.py": "tests/model/test_lora.py",
    "slm/model/": "tests/model/test_decoder.py tests/test_generate.py",
    "slm/train/objective.py": "tests/train/test_objective.py tests/train/test_step.py",
    "slm/train/step.py": "tests/train/test_step.py tests/train/test_objective.py tests/model/test_lora.py",
    "slm/train/optimizer.py": "tests/train/test_step.py",
    "slm/train/": "tests/train tests/test_main.py",
    "slm/data/loader.py": "tests/data/test_loader.py tests/data/test_mixture.py tests/train/test_sft.py",
    "slm/data/stream.py": "tests/data/test_stream.py tests/data/test_loader.py",
    "slm/data/conversations.py": "tests/data/test_conversations.py tests/train/test_sft.py",
    "slm/data/sets.py": "tests/data/test_sets.py tests/train/test_sft.py",
    "slm/scoring/metrics.py": "tests/evaluation/test_metrics.py",
    "slm/evaluation/statistics.py": "tests/evaluation/test_statistics.py",
    "slm/scoring/calibration.py": "tests/evaluation/test_calibration.py",
    "slm/scoring/baselines.py": "tests/evaluation/test_baselines.py",
    "slm/scoring/dictionary.py": "tests/evaluation/test_baselines.py",
    "slm/evaluation/": "tests/evaluation/test_evaluate.py tests/evaluation/test_models.py tests/tasks",
}
# (file, code, mutated code)
MUTANTS = [
    # model/
    ("slm/model/attention.py", "q_BNTH * H**-0.5", "q_BNTH * H**-1.0"),
    ("slm/model/attention.py", "[:, queries, None] >= k_positions", "[:, queries, None] > k_positions"),
    ("slm/model/attention.py", "return (same & (q_positions", "return ((q_positions"),
    ("slm/model/attention.py", "slice(0, end if aligned else keys)", "slice(0, end)"),
    ("slm/model/attention.py", "- delta[:, :, :, queries] * divisor", "- delta[:, :, :, queries]"),
    ("slm/model/attention.py", 'size % 128 == 0 and length % size == 0', 'length % size == 0'),
    ("slm/model/layers.py", "* jax.lax.rsqrt(jnp.mean(jnp.square(x32), axis=-1, keepdims=True) + self.epsilon)",
     "* jax.lax.rsqrt(jnp.mean(jnp.square(x32), axis=-1, keepdims=True))"),
    ("slm/model/layers.py", "(-jnp.arange(half, dtype=jnp.float32) / half)",
     "(-jnp.arange(half, dtype=jnp.float32) / (half - 1))"),
    ("slm/model/layers.py", "second * cosine + first * sine", "second * cosine - first * sine"),
    ("slm/model/layers.py", "(1 + x * (1 - gate))", "(1 + x * gate)"),
    ("slm/model/layers.py", "(config.mlp_width, config.width), (2 * config.layers) ** -0.5)",
     "(config.mlp_width, config.width))"),
    ("slm/model/layers.py", "silu(project(x_BTD, self.gate, _COLUMNS))", "project(x_BTD, self.gate, _COLUMNS)"),
    ("slm/model/layers.py", "return x_BTD + self.mlp(self.mlp_norm(x_BTD)), cache",
     "return x_BTD + self.mlp(x_BTD), cache"),
    ("slm/model/layers.py", "q, k = rotate(q, angles), rotate(k, angles)", "q, k = rotate(q, angles), k"),
    ("slm/model/lora.py", "config.alpha / config.rank", "config.alpha"),
    ("slm/model/lora.py", '"b": jnp.zeros((L, config.rank, columns), jnp.float32)',
     '"b": jnp.ones((L, config.rank, columns), jnp.float32)'),
    ("slm/model/presets.py", "(3 if config.mlp == \"swiglu\" else 2)", "2"),
    ("slm/model/presets.py", "6 * matrices + 12 *", "6 * matrices + 6 *"),
    ("slm/model/decoder.py", "jnp.where(is_local, table_VD[rows], 0)", "table_VD[rows]"),
    ("slm/model/decoder.py", "return final_norm(params[\"final_norm\"])(x_BTD), cache", "return x_BTD, cache"),
    # train/
    ("slm/train/objective.py", "nll + z_loss * jnp.square(log_z)", "nll + z_loss * log_z"),
    ("slm/train/objective.py", "(1 + 2 * z_loss * log_z)", "(1 + z_loss * log_z)"),
    ("slm/train/objective.py", "jnp.sum(loss_mask_BC * nll), (logits", "jnp.sum(nll), (logits"),
    ("slm/train/objective.py", "scale = gradients[0]", "scale = 1.0"),
    ("slm/train/step.py", "jax.tree.map(lambda g: g / jnp.maximum(weight, 1), gradients)", "gradients"),
    ("slm/train/step.py", "good, capped = finite, norm", "good, capped = jnp.bool_(True), norm"),
    ("slm/train/step.py", 'state["step"] >= config.spike_after', 'state["step"] >= 0'),
    ("slm/train/step.py", "capped = jnp.minimum(norm, config.spike_factor * ema)", "capped = norm"),
    ("slm/train/step.py", 'keep(optimizer_state, state["optimizer"])', "optimizer_state"),
    ("slm/train/step.py", "_EMA_DECAY * ema + (1 - _EMA_DECAY) * capped", "capped"),
    ("slm/train/step.py", "swapaxes(0, 1), batch)", "swapaxes(0, 1)[:1].repeat(config.grad_accum_steps, 0), batch)"),
    ("slm/train/optimizer.py", "optax.chain(optax.clip_by_global_norm(config.clip_norm), update)", "update"),
    ("slm/train/optimizer.py", "optax.adamw(rate, mask=_is_matrix, **adam)", "optax.adamw(rate, **adam)"),
    ("slm/train/optimizer.py", "weight_decay=config.weight_decay, adam_b1", "adam_b1"),
    ("slm/train/optimizer.py", "peak * config.final_share, decay)", "peak, decay)"),
    ("slm/train/optimizer.py", "max(1, steps - warmup), config.final_share)", "max(1, steps - warmup))"),
    ("slm/train/optimizer.py", "[warmup, max(warmup, steps - decay)]", "[warmup, warmup]"),
    ("slm/train/telemetry.py", "peak * 1e12 * jax.device_count()", "peak * 1e12"),
    ("slm/train/telemetry.py", "row[\"step\"] <= step", "row[\"step\"] < step"),
    ("slm/train/loop.py", "number % config.evaluate_every == 0", "False"),
    ("slm/train/loop.py", "stale >= patience", "stale > patience"),
    ("slm/train/loop.py", "validations.add(number, training.validate(state, True), True)", "pass"),
    ("slm/train/loop.py", "return Outcome(number, ", "return Outcome(config.steps, "),
    ("slm/train/loop.py", 'for name in ("stream", "tokenizer", "base")', 'for name in ("stream", "tokenizer")'),
    ("slm/train/validation.py", "nll / math.log(2) / size", "nll / size"),
    ("slm/train/validation.py", "tokens * bytes_per_token[source]", "tokens"),
    # data/
    ("slm/data/loader.py", "segments[count:] = 0", "pass"),
    ("slm/data/loader.py", "self._stream[max(0, start - 1):start + length]", "self._stream[start:start + length]"),
    ("slm/data/loader.py", 'side="right")', 'side="left")'),
    ("slm/data/loader.py", "dataset = dataset[share::shares]", "dataset = dataset[::shares]"),
    ("slm/data/loader.py", "weights[source] * len(of_source)", "weights[source]"),
    ("slm/data/loader.py", 'iterator.set_state({"next_index": start})', "pass"),
    ("slm/data/loader.py", "batch += [blank] * (size - len(batch))", "batch += [rows[0]] * (size - len(batch))"),
    ("slm/data/stream.py", "np.cumsum(table[:, 0]) - table[:, 0]", "np.cumsum(table[:, 0])"),
    ("slm/data/stream.py", "if dictionary != expected:", "if False:"),
    ("slm/data/conversations.py", '["loss_mask"][span] = mask[1:]', '["loss_mask"][span] = mask[:-1]'),
    ("slm/data/conversations.py", "if room[row] >= lengths[number]", "if room[row] > lengths[number] + 1"),
    ("slm/data/conversations.py", "< share * 2**64", "< 0"),
    ("slm/data/conversations.py", 'row["segments"][span] = segment', 'row["segments"][span] = 1'),
    ("slm/data/sets.py", "number * len(entries) // config.limit", "number"),
    ("slm/data/sets.py", "if access.protocol == \"P1\":", "if True:"),
    # evaluation/
    ("slm/scoring/metrics.py", "distance = np.minimum(distance, 1)", "pass"),
    ("slm/scoring/metrics.py", "count = len(right) if right & predicted or not right else 0",
     "count = len(right & predicted)"),
    ("slm/scoring/metrics.py", "one in other or other in one", "one in other"),
    ("slm/scoring/metrics.py", "return float(not predicted)", "return 1.0"),
    ("slm/evaluation/statistics.py", "(1 + as_far) / (1 + len(draws))", "as_far / len(draws)"),
    ("slm/evaluation/statistics.py", "(len(tests) - index) * p", "len(tests) * p"),
    ("slm/evaluation/statistics.py", "largest = max(largest, min(", "largest = max(0.0, min("),
    ("slm/evaluation/statistics.py", "np.abs(draws - value) >=", "np.abs(draws) >="),
    ("slm/scoring/calibration.py", "bin.count * abs(bin.accuracy - bin.confidence) for bin",
     "abs(bin.accuracy - bin.confidence) for bin"),
    ("slm/scoring/answer_modes.py", "-by_letter[letter], letter", "by_letter[letter], letter"),
    ("slm/scoring/answer_modes.py", "ranked[:kind.letters_wanted(item)]", "ranked[:1]"),
    ("slm/evaluation/answer_store.py", 'first.get("asked") == identity', 'first.get("asked") != ""'),
    ("slm/evaluation/evaluate.py", "items[index * number // limit]", "items[index]"),
    ("slm/evaluation/evaluate.py", "baselines.majority(learned, asked, task.kind)",
     "baselines.majority((), asked, task.kind)"),
    ("slm/scoring/dictionary.py", "right[entity] / (met[entity] + 1)", "right[entity] / (met[entity] + 9)"),
    ("slm/scoring/baselines.py", "return shares * valid,", "return shares,"),
]


def main() -> None:
    first, last = (int(number) for number in sys.argv[1:3]) if len(sys.argv) > 2 else (0, len(MUTANTS))
    survivors = []
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, "slm")
        shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".git", ".venv", "runs", "*_cache"))
        for number, (name, code, mutated) in enumerate(MUTANTS[first:last], first):
            path = copy / name
            original = path.read_text(encoding="utf-8")
            if original.count(code) < 1:
                raise SystemExit(f"mutant {number}: {name} does not hold {code!r}; write the mutant again")
            path.write_text(original.replace(code, mutated, 1), encoding="utf-8")
            tests = next(tests for prefix, tests in TESTS.items() if name.startswith(prefix))
            started = time.perf_counter()
            run = subprocess.run(
                [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests.split()], cwd=copy,
                env={"PATH": "/usr/bin:/bin:/usr/local/bin", "HOME": folder, "PYTHONPATH": str(copy),
                     "JAX_COMPILATION_CACHE_DIR": f"{folder}/compiled"},
                capture_output=True, text=True, check=False)
            path.write_text(original, encoding="utf-8")
            if run.returncode not in (0, 1):
                raise SystemExit(f"mutant {number}: pytest ended with {run.returncode}:\n{run.stdout[-2000:]}")
            killer = next((line for line in run.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))),
                          "SURVIVED")
            survivors += [number] * (run.returncode == 0)
            print(f"{number:2} {time.perf_counter() - started:5.0f} s  {name}: {mutated.strip()[:50]!r}: "
                  f"{killer.split(' - ')[0]}", flush=True)
    print(f"{len(survivors)} of {last - first} survived: {survivors}")


if __name__ == "__main__":
    main()

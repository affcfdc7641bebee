"""Fine-tuning, from a base model's checkpoint to models that can be loaded."""

import dataclasses
import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from slm import checkpoint, generate
from slm.checkpoint import Checkpoints
from slm.data import loader
from slm.data.sets import SetConfig
from slm.generate import Sampler
from slm.model import decoder, lora
from slm.model.lora import LoraConfig
from slm.model.presets import PRESETS
from slm.text.tokenizer import Tokenizer
from slm.train import objective, optimizer, sft, step
from slm.train.loop import LoopConfig
from slm.train.optimizer import OptimizerConfig
from slm.train.sft import SftConfig

ROOT = Path(__file__).parent.parent.parent
MODEL = dataclasses.replace(PRESETS["debug"], layers=1, width=32, query_heads=4, kv_heads=2, mlp_width=64, context=64)
LOOP = LoopConfig(steps=6, evaluate_every=2, save_every=2, tensorboard=False)
LORA = LoraConfig(rank=4)


class Killed(Exception):
    pass


@pytest.fixture(scope="module", autouse=True)
def compiled_once():
    """Trainings of the same settings share their programs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(optimizer, "build", functools.cache(optimizer.build))
        patch.setattr(step, "program", functools.cache(step.program))
        yield


@pytest.fixture(scope="module")
def base(products, tmp_path_factory):
    """The workdir of a base model that has learned nothing, and conversations beside it."""
    folder = tmp_path_factory.mktemp("sft")
    shutil.copytree(products / "tokenizer", folder / "base" / "tokenizer")
    params = jax.jit(functools.partial(decoder.initialize, MODEL))(jax.random.key(5))
    saved = Checkpoints(folder / "base" / "checkpoints")
    saved.save(3, {"params": params}, {"step": 3, "tokenizer": Tokenizer.load(products / "tokenizer").fingerprint,
                                       "config": {"model": dataclasses.asdict(MODEL)}}, None)
    saved.close()
    lines = [json.dumps({"messages": [{"role": "user", "content": f"{number}番の患者の熱は？"},
                                      {"role": "assistant", "content": f"{36 + number % 4}.5℃です。"}]})
             for number in range(120)]
    (folder / "talks.jsonl").write_text("\n".join(lines) + "\n")
    return folder / "base"


def settings(base, **changes):
    return SftConfig(**{
        "checkpoint": str(base), "sets": (SetConfig("own", "messages", str(base.parent / "talks.jsonl")),),
        "validation_share": 0.2, "batch_rows": 8, "epochs": 0.0, "train": LOOP,
        "optimizer": OptimizerConfig(learning_rate=1e-2, final_share=0.0), **changes})


@pytest.fixture(scope="module")
def whole(base, tmp_path_factory):
    """(workdir, result) of two seeds that nothing interrupts."""
    workdir = tmp_path_factory.mktemp("whole")
    return workdir, sft.run(settings(base, seeds=2), workdir, time.perf_counter())


@pytest.fixture(scope="module")
def adapted(base, tmp_path_factory):
    """The same of LoRA, one seed."""
    workdir = tmp_path_factory.mktemp("adapted")
    return workdir, sft.run(settings(base, lora=LORA), workdir, time.perf_counter())


@pytest.fixture
def steps(monkeypatch):
    """How many steps a training took, and where it is to be killed."""
    class Steps:
        done, kill_before = 0, None
    made = step.program

    def program(*arguments):
        own = made(*arguments)

        def train(*arguments):
            if Steps.done + 1 == Steps.kill_before:
                raise Killed
            Steps.done += 1
            return own.train(*arguments)
        return dataclasses.replace(own, train=train)
    monkeypatch.setattr(step, "program", program)
    return Steps


def lines(folder, name="metrics.jsonl"):
    return [json.loads(line) for line in (folder / "training" / name).read_text().splitlines()]


def assert_same_models(one, other):
    """To the last bit: parameters and losses."""
    for a, b in ((parameters(one), parameters(other)),
                 *(([(x["step"], x["loss"]) for x in lines(folder)] for folder in (one, other)),)):
        jax.tree.map(np.testing.assert_array_equal, a, b)
    assert lines(one, "validation.jsonl") == lines(other, "validation.jsonl")


def parameters(folder):
    return jax.device_get(generate.load(folder)[0])


def saved_at(folder, number, like):
    return jax.device_get(checkpoint.read_params(folder / "training", number, like))


def differ(one, other):
    return any(jax.tree.leaves(jax.tree.map(lambda a, b: bool((a != b).any()), one, other)))


# Models -------------------------------------------------------------------------------------------------------

def test_each_seed_leaves_a_model_of_its_own(base, whole):
    workdir, result = whole
    assert sorted(path.name for path in workdir.iterdir()) == ["seed-0", "seed-1"]
    assert result["checkpoint"] == str(base) and result["protocol"] == "P2"
    for seed, own in enumerate(result["runs"]):
        folder = workdir / f"seed-{seed}"
        assert json.loads((folder / "result.json").read_text()) == own
        assert (own["seed"], own["fold"], own["steps"], own["planned_steps"]) == (seed, None, 6, 6)
        assert own["workdir"] == str(folder)
        assert own["validation_loss"] < own["first_validation_loss"] < np.log(3072) + 0.3
        assert own["conversations"] == {"own": 120 - held_out(base)} and own["cut_conversations"] == {}
        params, model, words = generate.load(folder)
        assert dataclasses.replace(model, remat=MODEL.remat, scan_layers=MODEL.scan_layers) == MODEL
        assert words.fingerprint == Tokenizer.load(base / "tokenizer").fingerprint
        about = checkpoint.read_about(folder)
        assert about["base"] == str(base) and about["config"]["seed"] == seed
    assert len(generate.complete(params, model, words, ["熱は？"], 3, Sampler(), 0)) == 1
    assert result["validation_loss"] == pytest.approx(np.mean([own["validation_loss"] for own in result["runs"]]))
    assert differ(parameters(workdir / "seed-0"), parameters(workdir / "seed-1"))  # other batches
    assert not (set(path.name for path in workdir.rglob("*")) & {"result.writing"})


def held_out(base):
    return sft.pack(settings(base), base, None, 64)["validation"]["own"].conversations


@pytest.mark.parametrize("which", ["whole", "adapted"])
def test_the_saved_parameters_have_the_loss_that_was_measured(base, which, request):
    workdir, result = request.getfixturevalue(which)
    rows = next(loader.validation(sft.pack(settings(base), base, None, 64)["validation"]["own"], 32))
    _, (nll, weight) = objective.sums(parameters(workdir / "seed-0"), MODEL, rows, 0.0, 64)
    assert float(nll / weight) == pytest.approx(result["runs"][0]["validation_loss"], rel=1e-5)


def test_lora_saves_the_base_with_its_adapters(base, adapted):
    folder = adapted[0] / "seed-0"
    own, frozen = parameters(folder), parameters(base)
    abstract = jax.eval_shape(lambda params: lora.initialize(params, LORA, jax.random.key(0)), frozen)
    adapters = saved_at(folder, 6, abstract)
    assert all(np.abs(pair["b"]).max() > 0 for part in adapters["blocks"].values() for pair in part.values())
    ids = np.arange(4, 36)[None]

    @jax.jit
    def scores(params):
        hidden, _ = decoder.hidden_states(params, MODEL, ids, np.ones_like(ids), np.arange(32)[None])
        return decoder.logits(params, hidden)
    expected = scores(lora.merge(frozen, adapters, LORA))
    np.testing.assert_allclose(scores(own), expected, atol=1e-5)
    assert np.abs(expected - scores(frozen)).max() > 1e-2
    for name in ("embedding", "final_norm", "head"):
        jax.tree.map(np.testing.assert_array_equal, own[name], frozen[name])


def test_of_cross_validation_each_fold_has_its_folder(base, tmp_path):
    result = sft.run(settings(base, protocol="CV", seeds=2, seed=7, train=dataclasses.replace(LOOP, steps=1)), tmp_path,
                     time.perf_counter())
    assert [(own["fold"], own["seed"]) for own in result["runs"]] == [(fold, seed) for fold in range(5) for seed in (7, 8)]
    for own in result["runs"]:
        assert own["workdir"] == str(tmp_path / f"fold-{own['fold']}" / f"seed-{own['seed']}")
        assert checkpoint.read_about(Path(own["workdir"]))["config"]["fold"] == own["fold"]


def test_epochs_count_weighted_rows(base, tmp_path, steps):
    own = sft.pack(settings(base), base, None, 64)["train"]["own"]
    sets = (SetConfig("own", "messages", str(base.parent / "talks.jsonl"), weight=3.0),)
    result = sft.run(settings(base, sets=sets, epochs=0.5), tmp_path, time.perf_counter())
    assert steps.done == result["runs"][0]["planned_steps"] == max(1, round(0.5 * 3 * len(own) / 8)) > 1


def test_what_cannot_be_trained_is_refused(base, tmp_path):
    with pytest.raises(ValueError, match=r"row_length=65 is longer than the context of .*base, 64: shorten it"):
        sft.run(settings(base, row_length=65), tmp_path, 0.0)
    with pytest.raises(ValueError, match="batch_rows=12 cannot be shared by data=1 × fsdp=8 devices"):
        sft.run(settings(base, batch_rows=12), tmp_path, 0.0)
    with pytest.raises(FileNotFoundError, match="nowhere/checkpoints has no checkpoint"):
        sft.run(settings(base, checkpoint=str(tmp_path / "nowhere")), tmp_path, 0.0)
    assert not list(tmp_path.iterdir())
    for changes in (dict(seeds=0), dict(batch_rows=0), dict(sets=()), dict(validation_share=1.0), dict(epochs=-1.0)):
        with pytest.raises(ValueError, match="|".join(changes)):
            settings(base, **changes)


# Going on -----------------------------------------------------------------------------------------------------

def test_the_same_call_again_trains_nothing(base, whole, steps):
    workdir, result = whole
    before = {path: path.stat().st_mtime_ns for path in workdir.rglob("*")}
    assert sft.run(settings(base, seeds=2), workdir, 0.0) == result
    assert steps.done == 0
    assert {path: path.stat().st_mtime_ns for path in workdir.rglob("*")} == before


def test_more_seeds_are_added_to_those_that_are_done(base, adapted, steps, tmp_path):
    shutil.copytree(adapted[0], tmp_path, dirs_exist_ok=True)
    result = sft.run(settings(base, lora=LORA, seeds=2), tmp_path, time.perf_counter())
    assert steps.done == 6 and [own["seed"] for own in result["runs"]] == [0, 1]
    assert result["runs"][0] == adapted[1]["runs"][0]


@pytest.mark.parametrize("which, changes, moment", [
    ("whole", {}, 2), ("whole", {}, 6), ("adapted", dict(lora=LORA), 4)])
def test_killed_and_started_again_equals_undisturbed(base, steps, tmp_path, which, changes, moment, request):
    undisturbed = request.getfixturevalue(which)[0] / "seed-0"
    steps.kill_before = moment
    with pytest.raises(Killed):
        sft.run(settings(base, **changes), tmp_path, time.perf_counter())
    assert not (tmp_path / "seed-0" / "result.json").exists()
    wait_for_checkpoint(tmp_path / "seed-0", (moment - 1) // 2 * 2)
    steps.done, steps.kill_before = 0, None
    sft.run(settings(base, **changes), tmp_path, time.perf_counter())
    assert steps.done == 6 - (moment - 1) // 2 * 2
    assert_same_models(tmp_path / "seed-0", undisturbed)


def wait_for_checkpoint(folder, number):
    """A save under way ends with its process; here there is but one process."""
    until = time.monotonic() + 20
    while number and not (folder / "training" / "checkpoints" / str(number) / "_CHECKPOINT_METADATA").exists():
        assert time.monotonic() < until
        time.sleep(0.02)


@pytest.mark.parametrize("lost", [("result.json",), ("result.json", "checkpoints"), ("result.json", "tokenizer")])
def test_killed_after_the_last_step_trains_nothing_more(base, adapted, steps, tmp_path, lost):
    shutil.copytree(adapted[0], tmp_path, dirs_exist_ok=True)
    for name in lost:
        path = tmp_path / "seed-0" / name
        path.unlink() if path.is_file() else shutil.rmtree(path)
    result, = sft.run(settings(base, lora=LORA), tmp_path, time.perf_counter())["runs"]
    assert steps.done == 0
    assert_same_models(tmp_path / "seed-0", adapted[0] / "seed-0")
    assert result == adapted[1]["runs"][0] | {"workdir": str(tmp_path / "seed-0")}


def test_another_run_in_the_same_folder_is_refused(base, adapted, tmp_path):
    shutil.copytree(adapted[0], tmp_path, dirs_exist_ok=True)
    (tmp_path / "seed-0" / "result.json").unlink()
    with pytest.raises(ValueError, match=r"run with config\.lora\.alpha=32\.0, this one has 16\.0"):
        sft.run(settings(base, lora=LoraConfig(rank=4, alpha=16.0)), tmp_path, time.perf_counter())
    talks = base.parent / "talks.jsonl"
    other = tmp_path / "other.jsonl"
    other.write_text("".join(talks.read_text().splitlines(keepends=True)[:100]))
    with pytest.raises(ValueError, match="was trained on stream"):
        sft.run(settings(base, lora=LORA, sets=(SetConfig("own", "messages", str(other)),)), tmp_path,
                time.perf_counter())


# Early stopping -----------------------------------------------------------------------------------------------

SCRIPT = [5.0, 4.0, 3.0, 3.5, 3.2, 3.1, 3.0, 2.0]  # the lowest within reach of a patience of two is the third


def early(base, **changes):
    return settings(base, lora=LORA, train=dataclasses.replace(
        LOOP, steps=8, patience=2, **{"evaluate_every": 1, "save_every": 1, **changes}))


@pytest.fixture
def scripted(monkeypatch):
    losses = iter(SCRIPT)

    def measure(*_):
        loss = next(losses)
        return {"loss": loss, "bits_per_byte": loss / 2, "bits_per_byte_by_source": {"own": loss / 2}}
    monkeypatch.setattr(sft.validation, "measure", measure)


@pytest.fixture
def stopped(base, tmp_path, steps, scripted):
    """(folder, result) of a run that ended early."""
    result = sft.run(early(base), tmp_path, time.perf_counter())
    return tmp_path / "seed-0", result["runs"][0]


def adapters_at(base, folder, number):
    frozen = parameters(base)
    return saved_at(folder, number, jax.eval_shape(lambda own: lora.initialize(own, LORA, jax.random.key(0)), frozen))


def test_patience_ends_and_the_best_is_kept(base, stopped, steps):
    folder, result = stopped
    assert steps.done == 5 and [line["loss"] for line in lines(folder, "validation.jsonl")] == SCRIPT[:5]
    assert (result["steps"], result["planned_steps"], result["validation_loss"]) == (3, 8, 3.0)
    best, last = (adapters_at(base, folder, number) for number in (3, 5))
    merged = jax.device_get(jax.jit(lambda base, own: lora.merge(base, own, LORA))(parameters(base), best))
    jax.tree.map(np.testing.assert_array_equal, parameters(folder), merged)
    assert differ(best, last)
    assert checkpoint.read_about(folder)["step"] == 3


def test_after_an_early_end_nothing_is_trained(base, stopped, steps):
    folder, result = stopped
    before, steps.done = parameters(folder), 0
    assert sft.run(early(base), folder.parent, 0.0)["runs"] == [result]
    for lost in (["result.json"], ["result.json", "checkpoints"]):
        for name in lost:
            path = folder / name
            path.unlink() if path.is_file() else shutil.rmtree(path)
        assert sft.run(early(base), folder.parent, time.perf_counter())["runs"] == [result]
        jax.tree.map(np.testing.assert_array_equal, parameters(folder), before)
    assert steps.done == 0


def test_the_best_is_kept_where_it_is_not_a_step_that_is_saved(base, steps, scripted, tmp_path):
    result, = sft.run(early(base, save_every=4), tmp_path, time.perf_counter())["runs"]
    assert steps.done == 5
    assert (result["steps"], result["validation_loss"]) == (3, 3.0)


def test_an_early_end_is_one_for_the_other_processes_too(base, stopped, monkeypatch):
    folder, _ = stopped
    (folder / "result.json").unlink()
    monkeypatch.setattr(sft.distributed, "of_first", lambda value: 2)  # the first has counted two without a lower loss
    monkeypatch.setattr(sft.distributed, "is_first", lambda: False)
    sft.run(early(base), folder.parent, time.perf_counter())


# A process that is killed -------------------------------------------------------------------------------------

@pytest.mark.slow
@pytest.mark.parametrize("changes", [(), ("--config.lora.rank=4",)])
def test_a_killed_process_goes_on(base, tmp_path, changes):
    (tmp_path / "configs").symlink_to(ROOT / "configs")

    def start(name):
        return subprocess.Popen(
            [sys.executable, "-m", "slm.main", "--config=configs/sft.py:messages",
             f"--config.sets.own.files={base.parent / 'talks.jsonl'}", f"--config.checkpoint={base}",
             "--config.epochs=0", "--config.train.steps=30", "--config.train.save_every=5",
             "--config.train.evaluate_every=10", "--config.train.tensorboard=false", "--config.validation_share=0.2",
             *changes, f"--workdir=runs/{name}"], cwd=tmp_path, text=True, start_new_session=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)})

    def finish(name):
        process = start(name)
        _, err = process.communicate(timeout=240)
        assert process.returncode == 0, err
        return tmp_path / "runs" / name / "seed-0"
    undisturbed = finish("whole")
    metrics = tmp_path / "runs" / "killed" / "seed-0" / "training" / "metrics.jsonl"
    for moment in (3, 17):
        process = start("killed")
        while process.poll() is None and not (metrics.exists() and len(metrics.read_text().splitlines()) >= moment):
            time.sleep(0.005)
        os.killpg(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, "it ended before it could be killed"
        process.communicate()
    killed = finish("killed")
    assert_same_models(killed, undisturbed)
    assert (tmp_path / "runs" / "killed" / "result.json").exists()

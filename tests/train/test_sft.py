"""Fine-tuning, from a base model's checkpoint to models that can be loaded."""

import contextlib
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

from slm import checkpoint, sharding
from slm.checkpoint import Checkpoints
from slm.data import loader
from slm.data.sets import SetConfig
from slm.model import decoder, lora
from slm.model.lora import LoraConfig
from slm.model.presets import PRESETS
from slm.sharding import MeshConfig
from slm.tasks.benchmark import Provenance
from slm.tasks.jmed_llm import JmedLlmConfig
from slm.text.tokenizer import load_tokenizer
from slm.train import loop, optimizer, sft, step
from slm.train.base import Base
from slm.train.loop import LoopConfig
from slm.train.optimizer import OptimizerConfig
from slm.train.sft import SftConfig
from slm.train.step import StepConfig

ROOT = Path(__file__).parent.parent.parent
MODEL = dataclasses.replace(PRESETS["debug"], layers=1, width=32, query_heads=4, kv_heads=2, mlp_width=64, context=64)
LOOP = LoopConfig(steps=6, evaluate_every=2, save_every=2, tensorboard=False)
LORA = LoraConfig(rank=4)


class Killed(Exception):
    pass


@pytest.fixture(scope="module", autouse=True)
def compiled_once():
    """One device, and one program for all trainings: of LoRA or not, with the learning rates of six steps."""
    build, one = optimizer.build, jax.devices()[:1]
    with pytest.MonkeyPatch.context() as patch:
        six = functools.cache(functools.partial(build, steps=6))
        patch.setattr(optimizer, "build", lambda config, steps: six(config))
        patch.setattr(step, "compiled", functools.cache(step.compiled))
        patch.setattr(sharding, "make_mesh", functools.partial(sharding.make_mesh, devices=one))
        patch.setattr(jax, "device_count", lambda: 1)
        yield


def drawn(model, spread):
    """Parameters of numpy's: compiling `decoder.initialize` takes longer than these tests."""
    rng = np.random.default_rng(0)
    return jax.tree.map_with_path(
        lambda path, x: np.ones(x.shape, np.float32) if path[-1].key == "scale" else np.float32(
            rng.normal(0, spread, x.shape)), jax.eval_shape(lambda key: decoder.initialize(model, key), jax.random.key(0)))


@pytest.fixture(scope="module")
def base(products, tmp_path_factory):
    """The workdir of a base model that has learned nothing, and conversations beside it."""
    folder = tmp_path_factory.mktemp("sft")
    shutil.copytree(products / "tokenizer", folder / "base" / "tokenizer")
    saved = Checkpoints(folder / "base" / "checkpoints")
    saved.save(3, {"params": drawn(MODEL, 0.02)}, {"step": 3, "tokenizer": load_tokenizer(products / "tokenizer").fingerprint,
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
        "validation_share": 0.2, "batch_size": 8, "epochs": 0.0, "train": LOOP,
        "optimizer": OptimizerConfig(learning_rate=1e-2, final_share=0.0), **changes})


@pytest.fixture(scope="module")
def whole(base, tmp_path_factory):
    """(workdir, result) of two seeds that nothing interrupts."""
    workdir = tmp_path_factory.mktemp("whole")
    return workdir, sft.run(settings(base, seeds=2), workdir)


@pytest.fixture(scope="module")
def adapted(base, tmp_path_factory):
    """The same of LoRA, one seed."""
    workdir = tmp_path_factory.mktemp("adapted")
    return workdir, sft.run(settings(base, lora=LORA), workdir)


@contextlib.contextmanager
def counted():
    """How many steps a training took, and where it is to be killed."""
    class Steps:
        done, kill_before = 0, None
    made = step.compiled

    def program(*arguments):
        own = made(*arguments)

        def train(*arguments):
            if Steps.done + 1 == Steps.kill_before:
                raise Killed
            Steps.done += 1
            return own.train(*arguments)
        return dataclasses.replace(own, train=train)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(step, "compiled", program)
        yield Steps


@pytest.fixture
def steps():
    with counted() as own:
        yield own


def lines(folder, name="metrics.jsonl"):
    return [json.loads(line) for line in (folder / "training" / name).read_text().splitlines()]


def assert_same_models(one, other):
    """To the last bit: parameters and losses."""
    for a, b in ((parameters(one), parameters(other)),
                 *(([(x["step"], x["loss"]) for x in lines(folder)] for folder in (one, other)),)):
        jax.tree.map(np.testing.assert_array_equal, a, b)
    assert lines(one, "validation.jsonl") == lines(other, "validation.jsonl")


def parameters(folder):
    return jax.device_get(checkpoint.read(folder)[0])


def saved_at(folder, number, like):
    return jax.device_get(checkpoint.read_params(folder / "training", number, like))


def differ(one, other):
    return any(jax.tree.leaves(jax.tree.map(lambda a, b: bool((a != b).any()), one, other)))


# Models -------------------------------------------------------------------------------------------------------

def test_each_seed_leaves_a_model_of_its_own(base, whole):
    workdir, result = whole
    assert sorted(path.name for path in workdir.iterdir()) == ["base.json", "seed-0", "seed-1"]
    assert result["checkpoint"] == str(base) and result["provenance"]["protocol"] == "P0"
    for seed, own in enumerate(result["runs"]):
        folder = workdir / f"seed-{seed}"
        assert json.loads((folder / "result.json").read_text()) == own
        assert (own["seed"], own["fold"], own["steps"], own["planned_steps"]) == (seed, None, 6, 6)
        assert own["workdir"] == str(folder)
        assert own["validation_loss"] < own["first_validation_loss"] < np.log(3072) + 0.3
        assert own["conversations"] == {"own": 120 - held_out(base)} and own["cut_conversations"] == {}
        _, model, words = checkpoint.read(folder)
        assert dataclasses.replace(model, remat=MODEL.remat, scan_layers=MODEL.scan_layers) == MODEL
        assert words.fingerprint == load_tokenizer(base / "tokenizer").fingerprint
        about = checkpoint.read_about(folder)
        assert (about["base"]["path"], about["base"]["step"]) == (str(base), 3) and about["config"]["seed"] == seed
    assert result["validation_loss"] == pytest.approx(np.mean([own["validation_loss"] for own in result["runs"]]))
    assert differ(parameters(workdir / "seed-0"), parameters(workdir / "seed-1"))  # other batches
    assert not (set(path.name for path in workdir.rglob("*")) & {"result.writing"})


def held_out(base):
    return sft.pack(settings(base), base, MODEL, None, 64).rows["validation"]["own"].conversations


@jax.jit
def scores(params, rows):
    hidden, _ = decoder.hidden_states(params, MODEL, rows["inputs"], rows["segments"], rows["positions"])
    return decoder.logits(params, hidden)


@pytest.fixture(scope="module")
def rows(base):
    own = sft.pack(settings(base), base, MODEL, None, 64).rows["validation"]["own"]
    return next(loader.validation(own, len(own)))


@pytest.mark.parametrize("which", ["whole", "adapted"])
def test_the_saved_parameters_have_the_loss_that_was_measured(rows, which, request):
    workdir, result = request.getfixturevalue(which)
    found = np.asarray(scores(parameters(workdir / "seed-0"), rows), float)
    nll = np.log(np.exp(found).sum(-1)) - np.take_along_axis(found, rows["targets"][..., None], -1)[..., 0]
    loss = (nll * rows["loss_mask"]).sum() / rows["loss_mask"].sum()
    assert loss == pytest.approx(result["runs"][0]["validation_loss"], rel=1e-5)


def test_lora_saves_the_base_with_its_adapters(base, rows, adapted):
    folder = adapted[0] / "seed-0"
    own, frozen = parameters(folder), parameters(base)
    abstract = jax.eval_shape(lambda params: lora.initialize(params, LORA, jax.random.key(0)), frozen)
    adapters = saved_at(folder, 6, abstract)
    assert all(np.abs(pair["b"]).max() > 0 for part in adapters["blocks"].values() for pair in part.values())
    expected = scores(lora.merge(frozen, adapters, LORA), rows)
    np.testing.assert_allclose(scores(own, rows), expected, atol=1e-5)
    assert np.abs(expected - scores(frozen, rows)).max() > 1e-2
    for name in ("embedding", "final_norm", "head"):
        jax.tree.map(np.testing.assert_array_equal, own[name], frozen[name])


def test_of_cross_validation_each_fold_has_its_folder(base, tmp_path, monkeypatch):
    made = []

    def train(config, base, rows, seq_len, folder, seed, fold, provenance):
        made.append((str(folder.relative_to(tmp_path)), seed, fold))
        return {"validation_loss": float(fold), "train_seconds": 1.0}
    monkeypatch.setattr(sft, "_train", train)
    result = sft.run(settings(base, protocol="CV", seeds=2, seed=7), tmp_path)
    assert made == [(f"fold-{fold}/seed-{seed}", seed, fold) for fold in range(5) for seed in (7, 8)]
    assert (result["validation_loss"], result["train_seconds"], len(result["runs"])) == (2.0, 10.0, 10)


def test_epochs_count_weighted_rows(base, tmp_path, steps):
    own = sft.pack(settings(base), base, MODEL, None, 64).rows["train"]["own"]
    sets = (SetConfig("own", "messages", str(base.parent / "talks.jsonl"), weight=3.0),)
    result = sft.run(settings(base, sets=sets, epochs=0.5), tmp_path)
    assert steps.done == result["runs"][0]["planned_steps"] == max(1, round(0.5 * 3 * len(own) / 8)) > 1


def test_what_cannot_be_trained_is_refused(base, tmp_path):
    with pytest.raises(ValueError, match=r"seq_len=65 is longer than the context of .*base, 64: shorten it"):
        sft.run(settings(base, seq_len=65), tmp_path)
    with pytest.raises(ValueError, match=r"batch_size=8 cannot be shared by .* in step\.grad_accum_steps=3 parts"):
        sft.run(settings(base, step=StepConfig(grad_accum_steps=3)), tmp_path)
    with pytest.raises(ValueError, match=r"mesh\.tensor|tensor=3 does not fit 1 devices"):
        sft.run(settings(base, mesh=MeshConfig(tensor=3)), tmp_path)
    with pytest.raises(FileNotFoundError, match="nowhere/checkpoints has no checkpoint"):
        sft.run(settings(base, checkpoint=str(tmp_path / "nowhere")), tmp_path)
    assert not list(tmp_path.glob("seed-*"))
    for changes in (dict(seeds=0), dict(batch_size=0), dict(sets=()), dict(validation_share=1.0), dict(epochs=-1.0)):
        with pytest.raises(ValueError, match="|".join(changes)):
            settings(base, **changes)


# Going on -----------------------------------------------------------------------------------------------------

def test_the_same_call_again_trains_nothing(base, whole, steps):
    workdir, result = whole
    before = {path: path.stat().st_mtime_ns for path in workdir.rglob("*")}
    assert sft.run(settings(base, seeds=2), workdir) == result
    assert steps.done == 0
    assert {path: path.stat().st_mtime_ns for path in workdir.rglob("*")} == before


def test_more_seeds_are_added_to_those_that_are_done(base, adapted, steps, tmp_path):
    shutil.copytree(adapted[0], tmp_path, dirs_exist_ok=True)
    result = sft.run(settings(base, lora=LORA, seeds=2), tmp_path)
    assert steps.done == 6 and [own["seed"] for own in result["runs"]] == [0, 1]
    assert result["runs"][0] == adapted[1]["runs"][0]


@pytest.mark.parametrize("which, changes, moment", [
    ("whole", {}, 4), ("adapted", dict(lora=LORA), 6)])
def test_killed_and_started_again_equals_undisturbed(base, steps, tmp_path, which, changes, moment, request):
    undisturbed = request.getfixturevalue(which)[0] / "seed-0"
    steps.kill_before = moment
    with pytest.raises(Killed):
        sft.run(settings(base, **changes), tmp_path)
    assert not (tmp_path / "seed-0" / "result.json").exists()
    wait_for_checkpoint(tmp_path / "seed-0", (moment - 1) // 2 * 2)
    steps.done, steps.kill_before = 0, None
    sft.run(settings(base, **changes), tmp_path)
    assert steps.done == 6 - (moment - 1) // 2 * 2
    assert_same_models(tmp_path / "seed-0", undisturbed)


def wait_for_checkpoint(folder, number):
    """A save under way ends with its process; here there is but one process."""
    until = time.monotonic() + 20
    while number and not (folder / "training" / "checkpoints" / str(number) / "_CHECKPOINT_METADATA").exists():
        assert time.monotonic() < until
        time.sleep(0.02)


def remove(folder, names):
    for name in names:
        (folder / name).unlink() if (folder / name).is_file() else shutil.rmtree(folder / name)


@pytest.mark.parametrize("lost", [("result.json",), ("result.json", "checkpoints")])
def test_killed_after_the_last_step_trains_nothing_more(base, adapted, steps, tmp_path, lost):
    shutil.copytree(adapted[0], tmp_path, dirs_exist_ok=True)
    remove(tmp_path / "seed-0", lost)
    result, = sft.run(settings(base, lora=LORA), tmp_path)["runs"]
    assert steps.done == 0
    assert_same_models(tmp_path / "seed-0", adapted[0] / "seed-0")
    assert result == adapted[1]["runs"][0] | {"workdir": str(tmp_path / "seed-0")}


def test_another_run_in_the_same_folder_is_refused(base, adapted, tmp_path):
    shutil.copytree(adapted[0], tmp_path, dirs_exist_ok=True)
    (tmp_path / "seed-0" / "result.json").unlink()
    with pytest.raises(ValueError, match=r"run with config\.lora\.alpha=32\.0, this one has 16\.0"):
        sft.run(settings(base, lora=LoraConfig(rank=4, alpha=16.0)), tmp_path)
    talks = base.parent / "talks.jsonl"
    other = tmp_path / "other.jsonl"
    other.write_text("".join(talks.read_text().splitlines(keepends=True)[:100]))
    with pytest.raises(ValueError, match="was trained on stream"):
        sft.run(settings(base, lora=LORA, sets=(SetConfig("own", "messages", str(other)),)), tmp_path)


# Early stopping -----------------------------------------------------------------------------------------------

SCRIPT = [5.0, 4.0, 3.0, 3.5, 3.2, 3.1, 3.0, 2.0]  # the lowest within reach of a patience of two is the third


def early(base, **changes):
    return settings(base, lora=LORA, train=dataclasses.replace(
        LOOP, steps=8, patience=2, **{"evaluate_every": 1, "save_every": 1, **changes}))


@contextlib.contextmanager
def scripted():
    """Validations that find the losses of the script, whatever was learned."""
    losses = iter(SCRIPT)

    def measure(*_):
        loss = next(losses)
        return {"loss": loss, "bits_per_byte": loss / 2, "bits_per_byte_by_source": {"own": loss / 2}}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop.validation, "measure", measure)
        yield


@pytest.fixture(scope="module")
def ended(base, tmp_path_factory):
    """(workdir, result, steps) of a run that ended early."""
    workdir = tmp_path_factory.mktemp("ended")
    with counted() as steps, scripted():
        result = sft.run(early(base), workdir)
    return workdir, result["runs"][0], steps.done


def merged_at(base, folder, number):
    frozen = parameters(base)
    adapters = saved_at(folder, number, jax.eval_shape(
        lambda own: lora.initialize(own, LORA, jax.random.key(0)), frozen))
    return jax.device_get(jax.jit(lambda base, own: lora.merge(base, own, LORA))(frozen, adapters))


def test_patience_ends_the_training(ended):
    workdir, result, steps = ended
    assert steps == 5 and [line["loss"] for line in lines(workdir / "seed-0", "validation.jsonl")] == SCRIPT[:5]
    assert result["planned_steps"] == 8 and result["first_validation_loss"] == 5.0




def test_of_an_early_end_the_best_is_kept(base, ended):
    workdir, result, _ = ended
    folder = workdir / "seed-0"
    assert differ(merged_at(base, folder, 3), merged_at(base, folder, 5))
    assert (result["steps"], result["validation_loss"]) == (3, 3.0)
    assert checkpoint.read_about(folder)["step"] == 3
    jax.tree.map(np.testing.assert_array_equal, parameters(folder), merged_at(base, folder, 3))


def test_the_best_is_known_and_kept_by_who_goes_on(tmp_path):
    state = {"params": np.zeros(2)}
    for numbers in ((1, 2, 3), (4, 5, 6)):
        saved = Checkpoints(tmp_path / "checkpoints", keep=2)
        for number in numbers:
            saved.save(number, state, {}, 1.0 if number == 2 else 2.0)
        saved.close()
    saved = Checkpoints(tmp_path / "checkpoints", keep=2)
    best = saved.best()
    saved.close()
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["2", "5", "6"] and best == 2


@pytest.mark.parametrize("lost", [(), ("result.json",), ("result.json", "checkpoints")])
def test_after_an_early_end_nothing_is_trained(base, ended, steps, tmp_path, lost):
    shutil.copytree(ended[0], tmp_path, dirs_exist_ok=True)
    remove(tmp_path / "seed-0", lost)
    result, = sft.run(early(base), tmp_path)["runs"]
    assert steps.done == 0 and result | {"workdir": ended[1]["workdir"]} == ended[1]
    assert_same_models(tmp_path / "seed-0", ended[0] / "seed-0")


def test_the_best_is_kept_where_it_is_not_a_step_that_is_saved(base, steps, tmp_path):
    with scripted():
        result, = sft.run(early(base, save_every=4), tmp_path)["runs"]
    assert steps.done == 5
    assert (result["steps"], result["validation_loss"]) == (3, 3.0)


def test_an_early_end_is_one_for_the_other_processes_too(base, ended, steps, tmp_path, monkeypatch):
    """Seen by a process that is not the first, when all start again after an early end."""
    shutil.copytree(ended[0], tmp_path, dirs_exist_ok=True)
    (tmp_path / "seed-0" / "result.json").unlink()
    monkeypatch.setattr(sft.distributed, "broadcast_from_first", lambda value: 1)  # the first knows that it has ended
    monkeypatch.setattr(sft.distributed, "is_first", lambda: False)
    sft.run(early(base), tmp_path)
    assert steps.done == 0
    assert_same_models(tmp_path / "seed-0", ended[0] / "seed-0")


# Elsewhere ----------------------------------------------------------------------------------------------------

@pytest.mark.slow
@pytest.mark.parametrize("which, changes", [("whole", {}), ("adapted", dict(lora=LORA))])
def test_eight_devices_equal_one(base, tmp_path, which, changes, request):
    workdir, result = request.getfixturevalue(which)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jax, "device_count", lambda: 8)
        patch.setattr(sharding, "make_mesh", sharding.make_mesh.func)
        other = sft.run(settings(base, mesh=MeshConfig(data=2, fsdp=2, tensor=2), **changes), tmp_path)
    np.testing.assert_allclose(*([line["loss"] for line in lines(folder / "seed-0")] for folder in (tmp_path, workdir)),
                               atol=1e-5)
    assert other["runs"][0]["validation_loss"] == pytest.approx(result["runs"][0]["validation_loss"], abs=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4),
                 *(parameters(folder / "seed-0") for folder in (tmp_path, workdir)))


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


@pytest.mark.parametrize("earlier, protocol, expected", [
    (("P0", []), "P2", "P2"), (("P2", ["crade"]), "P2", "P2"), (("P2", ["crade"]), "P1", "P1"),
    (("P1", ["crade"]), "P2", None), (("P2", ["crade"]), "CV", None), (("CV", ["crade"]), "P2", None)])
def test_what_the_base_model_learned_counts_too(tmp_path, monkeypatch, earlier, protocol, expected):
    before = Provenance(earlier[0], {"jmed_llm": tuple(earlier[1]), "igakuqa": ("2018",)}, held_out=0.02)
    monkeypatch.setattr(sft.checkpoint, "read_about", lambda *_: {"provenance": before.to_json()})
    base = Base(tmp_path, 3, "", MODEL, tmp_path / "base.json")
    config = SftConfig(protocol=protocol, sets=(SetConfig("rrtnm", "jmed_llm"), SetConfig("2019", "igakuqa")))
    if expected is None:
        with pytest.raises(ValueError, match=f"{earlier[0]}|fold of a cross-validation"):
            sft._provenance(config, base)
    else:
        assert sft._provenance(config, base) == Provenance(
            expected, {"jmed_llm": tuple(sorted({*earlier[1], "rrtnm"})), "igakuqa": ("2018", "2019")}, held_out=0.02)


def test_a_checkpoint_written_before_provenance_had_its_name_is_not_taken_for_unseen():
    record = {"protocol": "P2", "jmed_llm": ["crade"], "igakuqa": [], "unchecked": True, "held_out": 0.05}
    assert Provenance.of_checkpoint({"learned": record}) == Provenance("P2", {"jmed_llm": ("crade",)}, True, 0.05)
    assert Provenance.of_checkpoint({}) == Provenance()


@pytest.mark.parametrize("settings, expected", [
    ({}, ("P0", True)), ({"jmed_llm": JmedLlmConfig("copy")}, ("P0", False)), ({"protocol": "P1"}, ("P1", False))])
def test_text_that_no_copy_of_the_benchmark_was_compared_with_is_marked(base, settings, expected):
    config = SftConfig(sets=(SetConfig("own", "messages", "talks.jsonl"),), **settings)
    provenance = sft._provenance(config, Base(base, 3, "", MODEL, base / "base.json"))
    assert (provenance.protocol, provenance.unchecked) == expected


@pytest.mark.parametrize("kind, expected", [("jmed_llm", "P2"), ("j_clinicalbench", "P2"), ("igakuqa", "P0")])
def test_a_benchmark_whose_rows_depend_on_the_protocol_sets_it(tmp_path, monkeypatch, kind, expected):
    monkeypatch.setattr(sft.checkpoint, "read_about", lambda *_: {})
    config = SftConfig(sets=(SetConfig("findings", kind),), protocol="P2")
    assert sft._provenance(config, Base(tmp_path, 3, "", MODEL, tmp_path / "base.json")).protocol == expected


def test_a_model_that_is_done_is_not_kept_for_other_data(base, whole, tmp_path):
    workdir, _ = whole
    shutil.copytree(workdir, tmp_path / "copy")
    talks = tmp_path / "talks.jsonl"
    lines = (base.parent / "talks.jsonl").read_text().splitlines()
    talks.write_text("\n".join(lines[:-3]) + "\n")
    with pytest.raises(ValueError, match="seed-0 holds a model whose stream is"):
        sft.run(settings(base, seeds=2, sets=(SetConfig("own", "messages", str(talks)),)), tmp_path / "copy")


# The base, and more steps -------------------------------------------------------------------------------------

@pytest.fixture
def trained_on(base, tmp_path):
    """A copy of the base, and a function that trains it for another step."""
    folder = tmp_path / "base"
    shutil.copytree(base, folder)

    def train(step, spread=0.05):
        saved = Checkpoints(folder / "checkpoints")
        saved.save(step, {"params": drawn(MODEL, spread)}, checkpoint.read_about(base) | {"step": step}, None)
        saved.close()
    return folder, train


def test_an_interrupted_fine_tuning_keeps_its_base(base, trained_on, steps, tmp_path, adapted):
    """Adapters of step 3 are not continued on, nor merged into, what the base has become since."""
    folder, train = trained_on
    config = dataclasses.replace(settings(base, lora=LORA), checkpoint=str(folder))
    steps.kill_before = 4
    with pytest.raises(Killed):
        sft.run(config, tmp_path / "run")
    wait_for_checkpoint(tmp_path / "run" / "seed-0", 2)
    train(7)
    steps.kill_before = None
    sft.run(config, tmp_path / "run")
    jax.tree.map(np.testing.assert_array_equal, parameters(tmp_path / "run" / "seed-0"),
                 parameters(adapted[0] / "seed-0"))
    about = checkpoint.read_about(tmp_path / "run" / "seed-0")
    assert about["base"]["step"] == 3 and json.loads((tmp_path / "run" / "base.json").read_text()) == about["base"]


def test_another_base_in_the_same_location_is_refused(base, trained_on, tmp_path):
    folder, train = trained_on
    config = dataclasses.replace(settings(base, lora=LORA), checkpoint=str(folder))
    sft.run(config, tmp_path / "run")
    with pytest.raises(ValueError, match=r"begin with .*base, this run has checkpoint="):
        sft.run(settings(base, lora=LORA), tmp_path / "run")
    shutil.rmtree(folder / "checkpoints")
    train(3)
    with pytest.raises(ValueError, match=r"begin with step 3 of .* as \w+, which is now \w+"):
        sft.run(config, tmp_path / "run")


def test_more_steps_train_a_finished_model_further_and_fewer_are_refused(base, steps, tmp_path):
    sft.run(settings(base), tmp_path)
    more = settings(base, train=dataclasses.replace(LOOP, steps=10))
    result, = sft.run(more, tmp_path)["runs"]
    assert steps.done == 10 and (result["steps"], result["planned_steps"]) == (10, 10)
    assert checkpoint.read_about(tmp_path / "seed-0")["step"] == 10
    with pytest.raises(ValueError, match=r"trained for 10 steps, more than the 6 asked for: raise train\.steps"):
        sft.run(settings(base), tmp_path)

import os
import re
import shutil
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from slm import checkpoint
from slm.checkpoint import Checkpoints


def state(value):
    return {"params": {"w": jnp.full((3, 2), value, jnp.float32)}, "optimizer": {"m": jnp.zeros(2)}, "step": jnp.int32(value)}


@pytest.fixture
def workdir(tmp_path):
    checkpoints = Checkpoints(tmp_path / "run" / "checkpoints", keep=2)
    for step, bits in ((10, 1.9), (20, 1.5), (30, 1.7), (40, None), (50, 1.6)):
        checkpoints.save(step, state(step), {"next_row": step * 8}, bits)
    checkpoints.close()
    return tmp_path / "run"


def test_the_newest_and_the_best_are_kept(workdir):
    assert sorted(path.name for path in (workdir / "checkpoints").iterdir()) == ["20", "40", "50"]


def test_a_state_comes_back_as_it_was(workdir):
    checkpoints = Checkpoints(workdir / "checkpoints", keep=2)
    assert checkpoints.latest() == 50
    assert checkpoints.about(50) == {"next_row": 400}
    back = checkpoints.restore(50, jax.eval_shape(lambda: state(0)))
    jax.tree.map(np.testing.assert_array_equal, back, state(50))
    checkpoints.close()


def test_parameters_are_read_alone(workdir):
    shapes = jax.eval_shape(lambda: state(0))["params"]
    for step, expected in ((None, 50), (20, 20)):
        params = checkpoint.read_params(workdir, step, shapes)
        np.testing.assert_array_equal(params["w"], np.full((3, 2), expected))
    assert checkpoint.read_about(workdir) == {"next_row": 400}


def test_what_a_kill_leaves_half_written_is_no_checkpoint(workdir):
    half = workdir / "checkpoints" / "60.orbax-checkpoint-tmp" / "state"
    half.mkdir(parents=True)
    checkpoints = Checkpoints(workdir / "checkpoints", keep=2)
    assert checkpoints.latest() == 50
    until = time.monotonic() + 20  # Orbax removes it in the background
    while half.exists() and time.monotonic() < until:
        time.sleep(0.05)
    checkpoints.close()
    assert not half.exists()


def test_a_missing_checkpoint_is_named_with_the_command_that_makes_one(workdir):
    with pytest.raises(FileNotFoundError, match=r"no checkpoint of step 7 \(found \[20, 40, 50\]\): train one"):
        checkpoint.read_about(workdir, 7)
    with pytest.raises(FileNotFoundError, match=r"no checkpoint under"):
        checkpoint.newest(workdir / "nowhere")
    assert checkpoint.newest(workdir.parent) == workdir


def test_a_checkpoint_is_named_by_workdir_step_fine_tuning_or_not_at_all(workdir, monkeypatch):
    runs = workdir.parent / "runs"
    (runs / "base").parent.mkdir()
    workdir.rename(runs / "base")
    for seed in (0, 1):
        shutil.copytree(runs / "base" / "checkpoints", runs / "tuned" / f"seed-{seed}" / "checkpoints")
    (runs / "cv" / "fold-0" / "seed-0" / "checkpoints").mkdir(parents=True)
    assert checkpoint.resolve(str(runs / "base")) == (runs / "base", None)
    assert checkpoint.resolve(str(runs / "base" / "checkpoints" / "20")) == (runs / "base", 20)
    assert checkpoint.resolve(str(runs / "tuned")) == (runs / "tuned" / "seed-0", None)
    assert checkpoint.resolve(str(runs / "tuned" / "seed-1")) == (runs / "tuned" / "seed-1", None)
    with pytest.raises(FileNotFoundError, match=r"cross-validation of 1 folds: name one, for example .*fold-0"):
        checkpoint.resolve(str(runs / "cv"))
    monkeypatch.chdir(runs.parent)
    os.utime(runs / "tuned" / "seed-1" / "checkpoints" / "50" / "_CHECKPOINT_METADATA", (2**31, 2**31))
    assert checkpoint.resolve("") == (Path("runs") / "tuned" / "seed-1", None)


def test_a_flipped_bit_in_any_file_is_noticed_and_the_older_one_offered(workdir):
    folder, shapes = workdir / "checkpoints" / "50", jax.eval_shape(lambda: state(0))
    damaged = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != checkpoint.CHECKSUMS_FILE]
    assert len(damaged) > 5
    rng = np.random.default_rng(0)
    for path in damaged:
        whole = path.read_bytes()
        content = bytearray(whole or b"\0")
        content[rng.integers(len(content))] ^= 1 << rng.integers(8)
        path.write_bytes(content)
        message = f"50 is damaged: {path.relative_to(folder)} is not as it was saved; remove the folder to use step 40"
        with pytest.raises(ValueError, match=re.escape(message)):
            checkpoint.read_params(workdir, None, shapes["params"])
        with pytest.raises(ValueError, match=re.escape(message)):  # Orbax itself reads the metrics when it opens
            Checkpoints(workdir / "checkpoints", keep=2).restore(50, shapes)
        path.write_bytes(whole)
    damaged[0].unlink()
    with pytest.raises(ValueError, match="50 is damaged"):
        checkpoint.read_params(workdir, 50, shapes["params"])
    shutil.rmtree(folder)
    assert checkpoint.read_params(workdir, None, shapes["params"])["w"][0, 0] == 40


def test_a_checkpoint_without_checksums_is_read(workdir):
    for path in (workdir / "checkpoints").glob(f"*/{checkpoint.CHECKSUMS_FILE}"):
        path.unlink()
    assert checkpoint.read_params(workdir, 50, jax.eval_shape(lambda: state(0))["params"])["w"][0, 0] == 50
    Checkpoints(workdir / "checkpoints", keep=2).close()  # writes what a kill has left out
    assert len(list((workdir / "checkpoints").glob(f"*/{checkpoint.CHECKSUMS_FILE}"))) == 3


def test_a_torn_record_names_its_file(workdir):
    (workdir / "checkpoints" / "50" / "about" / "metadata").write_text('{"next_row": ')
    with pytest.raises(ValueError, match=r"50/about/metadata is not JSON .* the checkpoint is damaged"):
        checkpoint.read_about(workdir)

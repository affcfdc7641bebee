"""A campaign of kills: each job is ended at random moments and run again, and must make what an undisturbed run makes.

It is killed (SIGKILL), asked to end (SIGTERM), interrupted (SIGINT), started twice at once, or its files may not grow beyond
some size, as on a full disk. The seed is fixed; the moments are shares of the undisturbed run's time. Slow: `make test-all`,
where SLM_KILLS sets how often each job is ended.
"""

import contextlib
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from array_record.python import array_record_module

from slm import checkpoint, sample
from slm.model import decoder

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parent.parent
KILLS, SEED = int(os.environ.get("SLM_KILLS", "38")), 20261127  # of each job: 300 of eight
WAYS = ("kill", "kill", "term", "int", "full", "two")
SIGNALS = {"kill": signal.SIGKILL, "two": signal.SIGKILL, "term": signal.SIGTERM, "int": signal.SIGINT}
STEPS = ["--config.train.steps=12", "--config.train.save_every=3", "--config.train.evaluate_every=6",
         "--config.train.tensorboard=false"]
# Job → its settings and, of what it makes, the part that must be the same. Each may use what those above it have made.
JOBS = {
    "textbooks": (["--config=configs/textbooks.py", "--config.size=60"], "documents.jsonl"),
    "corpus": (["--config=configs/corpus.py:files", "--config.corpus.files=own.jsonl"], "corpus"),
    "pretrain": (["--config=configs/pretrain.py:debug", "--config.model.context=512", *STEPS], "checkpoints"),
    "sft": (["--config=configs/sft.py:demo", *STEPS, "--config.epochs=0", "--config.checkpoint=runs/pretrain",
             "--config.validation_share=0.2"], "checkpoints"),
    "evaluate": (["--config=configs/evaluate.py:sample", "--config.checkpoint=runs/sft", "--config.limit=8",
                  "--config.resamples=20"], "result.json"),
    "export_gguf": (["--config=configs/export.py:gguf", "--config.checkpoint=runs/pretrain", "--config.prove=false",
                     "--config.kinds=f32"], "*.gguf"),
    "export_hugging_face": (["--config=configs/export.py:hugging_face", "--config.checkpoint=runs/pretrain",
                             "--config.prove=false"], "model/*"),
    "annotate": (["--config=configs/annotate.py", "--config.records=own.jsonl",
                  "--config.runtime.model=runs/export_gguf", "--config.settings.max_tokens=4"], "annotations.jsonl"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("kills")
    (path / "configs").symlink_to(ROOT / "configs")
    rows = [{"id": str(number), "text": row["text"][:300]} for number, row in enumerate(sample.documents(0.3, seed=5))]
    (path / "own.jsonl").write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows[:40]))
    return path


def start(folder, arguments, workdir, largest_file=0):
    """Starts a job; `largest_file` is in blocks of 512 bytes, 0: no limit."""
    limited = ["sh", "-c", f'ulimit -f {largest_file}; exec "$0" "$@"'] if largest_file else []
    return subprocess.Popen([*limited, sys.executable, "-m", "slm.main", *arguments, f"--workdir={workdir}"], cwd=folder,
                            env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.DEVNULL,
                            stderr=subprocess.PIPE, text=True, start_new_session=True)


def finish(folder, arguments, workdir):
    process = start(folder, arguments, workdir)
    _, err = process.communicate(timeout=600)
    assert process.returncode == 0, err[-2000:]


def content(workdir, part):
    """A digest of what a job made."""
    digest = hashlib.sha256()
    if part == "checkpoints":
        for path in sorted({*workdir.glob("checkpoints"), *workdir.glob("seed-0/checkpoints")}):
            model = checkpoint.read_model(path.parent)
            shapes = jax.eval_shape(lambda key: decoder.initialize(model, key), jax.random.key(0))  # noqa: B023
            for leaf in jax.tree.leaves(checkpoint.read_params(path.parent, None, shapes)):
                digest.update(np.asarray(leaf).tobytes())
    elif part == "corpus":
        product = workdir.parent.parent / json.loads((workdir / "result.json").read_text())["corpus"]
        for path in sorted(product.rglob("*.array_record")):
            for record in array_record_module.ArrayRecordReader(str(path)).read_all():
                digest.update(record)
    else:
        files = sorted(path for path in workdir.glob(part) if path.is_file())
        assert files
        for path in files:
            digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()


@pytest.mark.parametrize("job", JOBS)
def test_killed_at_any_moment_a_job_makes_the_same(folder, job):
    arguments, part = JOBS[job]
    if job == "annotate":
        pytest.importorskip("xllamacpp")
    products, whole, killed = folder / "runs" / "products", folder / "runs" / job, folder / "runs" / f"{job}-killed"
    before = {path.name for path in products.glob("*")}
    begun = time.perf_counter()
    finish(folder, arguments, f"runs/{job}")
    seconds = time.perf_counter() - begun
    expected = content(whole, part)

    def forget():  # what this job has built on the way
        for path in products.glob("*"):
            if path.name not in before and path.name != "compiled":
                shutil.rmtree(path)

    rng = random.Random(f"{SEED}-{job}")
    forget()
    for _ in range(KILLS):
        way, moment = rng.choice(WAYS), rng.uniform(0.2, 1.0) * seconds
        process = start(folder, arguments, f"runs/{job}-killed", int(10 ** rng.uniform(0.3, 3.3)) if way == "full" else 0)
        other = start(folder, arguments, f"runs/{job}-killed") if way == "two" else None
        try:
            process.wait(timeout=600 if way == "full" else moment)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, SIGNALS[way])
        _, err = process.communicate(timeout=600)
        if other:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(other.pid, signal.SIGKILL)
            _, other_err = other.communicate()
            assert "Traceback" not in other_err, other_err[-2000:]
        if way != "kill":  # it has been told why it ends
            assert "Traceback" not in err, (way, err[-2000:])
        if process.returncode == 0:  # it has finished: begin anew
            assert content(killed, part) == expected
            shutil.rmtree(killed)
            forget()
    finish(folder, arguments, f"runs/{job}-killed")
    assert content(killed, part) == expected
    assert not [path for path in killed.rglob("*.writing")]

"""The command line, as a user types it."""

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from concurrent.futures.process import _ExceptionWithTraceback
from pathlib import Path

import pytest

from slm import main, sample
from slm.data import stream
from slm.inference.constraints import Pieces
from slm.inference.sampling import Sampler

ROOT = Path(__file__).parent.parent
DEBUG = ["--config=configs/pretrain.py:debug", "--config.train.steps=40", "--config.train.save_every=5",
         "--config.train.evaluate_every=20", "--config.train.tensorboard=false"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A working folder with a space and Japanese characters in its name."""
    path = tmp_path_factory.mktemp("作業 folder")
    (path / "configs").symlink_to(ROOT / "configs")
    return path


def start(folder, *arguments, **options):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen([sys.executable, "-m", "slm.main", *arguments], cwd=folder, env=environment, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)


def slm(folder, *arguments):
    process = start(folder, *arguments)
    out, err = process.communicate(timeout=240)
    return process.returncode, out, err


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def run(folder):
    code, out, err = slm(folder, *DEBUG, "--workdir=runs/whole")
    assert code == 0, err
    return folder / "runs" / "whole", out, err


def test_a_run_leaves_what_it_promises(run):
    workdir, out, err = run
    result = json.loads((workdir / "result.json").read_text())
    assert {"steps", "tokens", "parameters", "tokens_per_second", "train_seconds", "train_loss", "validation_loss",
            "validation_bits_per_byte", "validation_bits_per_byte_by_source", "seconds_to_first_step",
            "skipped_steps"} <= set(result)
    assert result["steps"] == 40 and result["tokens"] == 40 * 8 * 64
    assert result["validation_bits_per_byte"] < result["first_validation_bits_per_byte"] < 4
    assert set(result["validation_bits_per_byte_by_source"]) == {
        "sample-prose", "sample-textbook", "sample-case", "sample-nursing", "sample-exam"}
    for name in ("corpus", "tokenizer", "stream", "checkpoints"):
        assert (workdir.parent.parent / result[name]).is_dir()
    config = json.loads((workdir / "config.json").read_text())
    assert config["config"]["train"]["steps"] == 40 and config["versions"]["jax"]
    assert [line["step"] for line in lines(workdir / "metrics.jsonl")] == list(range(1, 41))
    assert "step 40/40" in out and "tokens/s" in out and "making runs/products/corpus-" in err
    about = json.loads((workdir / "checkpoints" / "40" / "about" / "metadata").read_text())
    assert about["step"] == 40 and about["tokenizer"]
    assert about["stream"] == stream.fingerprint(workdir.parent.parent / result["stream"])


@pytest.mark.slow  # in the fast tests, test_sft.py kills and resumes in one process
def test_killed_three_times_equals_uninterrupted_bit_for_bit(run, folder):
    whole = run[0]
    workdir = folder / "runs" / "killed"
    metrics = workdir / "metrics.jsonl"
    for moment in (3, 14, 27):
        process = start(folder, *DEBUG, "--workdir=runs/killed", start_new_session=True)
        while process.poll() is None and not (metrics.exists() and len(metrics.read_text().splitlines()) >= moment):
            time.sleep(0.005)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert process.returncode == -signal.SIGKILL, "it ended before it could be killed"
    code, out, err = slm(folder, *DEBUG, "--workdir=runs/killed")
    assert code == 0, err
    assert "resuming from step" in out
    for name in ("metrics.jsonl", "validation.jsonl"):
        one, other = lines(whole / name), lines(workdir / name)
        for line in (*one, *other):
            line.pop("tokens_per_second", None)
        assert one == other


def test_a_finished_run_again_does_nothing(run, folder):
    before = (run[0] / "metrics.jsonl").read_bytes()
    code, out, err = slm(folder, *DEBUG, "--workdir=runs/whole")
    assert code == 0, err
    assert "resuming from step 40" in out and "making" not in err
    assert (run[0] / "metrics.jsonl").read_bytes() == before


def test_fewer_steps_than_were_trained_are_refused(run, folder):
    code, _, err = slm(folder, *DEBUG, "--config.train.steps=30", "--workdir=runs/whole")
    assert code != 0
    assert "runs/whole has been trained for 40 steps, more than train.steps=30" in err
    assert len(lines(run[0] / "metrics.jsonl")) == 40


def test_another_config_in_an_old_workdir_is_refused_with_both_values(run, folder):
    code, _, err = slm(folder, *DEBUG, "--config.seed=3", "--workdir=runs/whole")
    assert code != 0
    assert err.strip() == ("error: runs/whole holds a run with config.seed=0, this one has 3: give another --workdir, "
                           "or the old setting to resume")


def test_text_is_generated_from_the_newest_checkpoint(run, folder):
    code, out, err = slm(folder, "--config=configs/generate.py:greedy", "--config.new_tokens=8",
                         "--config.prompts=患者は|発熱", f"--config.checkpoint={run[0]}")
    assert code == 0, err
    samples = lines(folder / "runs" / "generate-greedy" / "samples.jsonl")
    assert [sample["prompt"] for sample in samples] == ["患者は", "発熱"]
    assert all(f"{sample['prompt']}→{sample['text']}" in out for sample in samples)


@pytest.mark.slow
def test_corpus_and_tokenizer_jobs_on_own_files(folder):
    rows = [{"text": row["text"]} for row in sample.documents(0.3, seed=5)]
    (folder / "own.jsonl").write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in [*rows, rows[0]]))
    files = "--config.corpus.files=own.jsonl"
    code, _, err = slm(folder, "--config=configs/corpus.py:files", files)
    assert code == 0, err
    written = [folder / "runs", *(folder / "runs").rglob("*")]
    assert len(written) > 10 and not [path for path in written if path.stat().st_mode & 0o077]
    report = json.loads((folder / "runs" / "corpus-files" / "result.json").read_text())
    assert (report["documents_in"], report["documents_out"], report["dropped"]) == (
        len(rows) + 1, len(rows), {"duplicate": 1})
    code, _, err = slm(folder, "--config=configs/tokenizer.py:size_32k", files)
    assert code != 0 and "the text cannot fill a vocabulary of" in err and "the largest size that works is" in err
    assert not list((folder / "runs" / "products").glob("*.making"))
    code, out, err = slm(folder, "--config=configs/tokenizer.py", files, "--workdir=runs/open", "--readable_by_others")
    assert code == 0 and (folder / "runs" / "open" / "result.json").stat().st_mode & 0o077, err
    assert "| morphemes + medical dictionary |" in out and "| plain Unigram |" in out


@pytest.mark.parametrize("arguments, message", [
    (["--config=configs/pretrain.py:huge"], "configs/pretrain.py has no variant 'huge': choose one of laptop"),
    (["--config=configs/pretrain.py:debug", "--config.corpus.files=none.jsonl"], "no file matches 'none.jsonl'"),
    (["--config=configs/pretrain.py:debug", "--config.model.vocabulary_size=99"],
     "tokenizer.size=3072 and model.vocabulary_size=99 conflict: set both to the same number"),
    (["--config=configs/pretrain.py:debug", "--config.train.stepz=99"],
     "--config.train.stepz is no setting of pretrain.py: known are "),
    (["--config=configs/pretrain.py:debug", "--config.rows.batch_rows=8"],
     "--config.rows.batch_rows is no setting of pretrain.py, which is now called rows.batch_size: known are "),
    (["--config=configs/evaluate.py", "--config.floors=false"], "which is now called baselines"),
    (["--config=configs/pretrain.py:debug", "--config.train.steps=many"], "steps"),
    (["--config=configs/nothing.py"], "configs/nothing.py"),
    (["--config=configs/generate.py", "--config.checkpoint=runs/nowhere"], "has no checkpoint"),
    (["--config=configs/generate.py", "--config.sampler.top_p=2.0"], "top_p is in (0, 1]"),
    (["--config=configs/pretrain.py:debug", "stray"], "'stray' is not a flag"),
    ([], "--config"),
])
def test_mistakes_get_one_clear_sentence(folder, arguments, message):
    code, _, err = slm(folder, *arguments)
    assert code != 0
    assert message in err and "Traceback" not in err, err


def test_a_traceback_comes_when_asked_for(folder):
    code, _, err = slm(folder, "--config=configs/pretrain.py:debug", "--config.corpus.files=none.jsonl", "--traceback")
    assert code != 0 and "Traceback" in err and "no file matches" in err


def test_a_fault_of_the_program_is_told_without_the_text_of_a_record(monkeypatch):
    def fails(*_):
        raise KeyError("山田太郎")
    monkeypatch.setattr(main, "main", fails)
    monkeypatch.setattr(sys, "argv", ["main", f"--config={ROOT}/configs/pretrain.py:debug"])
    monkeypatch.setattr(main.app, "run", lambda function, flags_parser: function([]))
    with pytest.raises(SystemExit, match=r"KeyError in main.py, line \d+ .run.: a fault") as ended:
        main.run()
    assert "山田太郎" not in str(ended.value)


def test_only_a_sentence_of_ours_is_a_message():
    def caught(function, *arguments):
        try:
            function(*arguments)
        except Exception as error:
            return error

    class Tokenizer:
        borders = None

        def __len__(self):
            return 1

        def pieces(self, ids):
            return ["<0x山田>"]

        def is_byte(self, index):
            return True

    of_python = caught(Pieces, Tokenizer())
    assert isinstance(of_python, ValueError) and "山田" in str(of_python) and not main._is_message(of_python)
    assert main._is_message(caught(Sampler, -1.0)) and main._is_message(FileNotFoundError("gone"))
    assert not main._is_message(caught(json.loads, "{"))
    for error, ours in ((of_python, False), (caught(Sampler, -1.0), True)):  # as a worker process passes them on
        passed_on = pickle.loads(pickle.dumps(_ExceptionWithTraceback(error, error.__traceback__)))
        assert main._is_message(passed_on) is ours
    faked = ValueError("\n  File \"slm/x.py\", line 1, in x\n    raise 山田")
    faked = caught(lambda: exec("raise faked", {"faked": faked}))
    assert not main._is_message(pickle.loads(pickle.dumps(_ExceptionWithTraceback(faked, faked.__traceback__))))


def test_an_early_end_is_reported_as_what_was_done(folder):
    code, _, err = slm(folder, *DEBUG, "--config.train.evaluate_every=2", "--config.optimizer.learning_rate=0.0",
                         "--config.optimizer.muon_learning_rate=0.0",
                         "--config.train.patience=1", "--config.rows.validation_rows=1", "--workdir=runs/ended")
    assert code == 0, err
    workdir = folder / "runs" / "ended"
    result = json.loads((workdir / "result.json").read_text())
    assert (result["steps"], result["tokens"]) == (4, 4 * 8 * 64)
    first, second, last = lines(workdir / "validation.jsonl")
    assert first["loss"] == second["loss"] != last["loss"]  # one row of each source, then all
    assert last["last"] and result["validation_loss"] == last["loss"]


def test_help_lists_the_jobs(folder):
    _, out, err = slm(folder, "--help")
    for job in ("corpus", "textbooks", "quality", "tokenizer", "pretrain", "generate"):
        assert f"configs/{job}.py" in out + err


def test_configs_come_from_here_or_with_the_package(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    own = Path(main.__file__).parent / "configs" / "plan.py"
    assert main.find_config(["slm", "--config=configs/plan.py:small,x=1"])[1] == f"--config={own}:small,x=1"
    assert main.find_config(["slm", "--config", "configs/plan.py"])[2] == str(own)
    with pytest.raises(SystemExit, match=r"configs/nothing.py is missing: known are .*configs/plan.py"):
        main.find_config(["slm", "--config=configs/nothing.py"])
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "plan.py").touch()
    assert main.find_config(["slm", "--config=configs/plan.py"])[1] == "--config=configs/plan.py"


@pytest.mark.slow
def test_a_wheel_brings_its_configs(tmp_path):
    """Installed elsewhere, run in an empty folder whose path has a space and Japanese characters."""
    root = Path(__file__).parents[1]
    place = tmp_path / "空 の フォルダ"
    place.mkdir()
    pip = [sys.executable, "-m", "pip", "--quiet"]
    subprocess.run([*pip, "wheel", "--no-deps", "--wheel-dir", tmp_path, root], check=True)
    wheel, = tmp_path.glob("*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--target", tmp_path / "site", wheel], check=True)
    done = subprocess.run([sys.executable, "-m", "slm.main", "--config=configs/pretrain.py:debug"], cwd=place,
                          env=os.environ | {"PYTHONPATH": str(tmp_path / "site")}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (place / "runs" / "pretrain-debug" / "result.json").exists()

"""Raw documents → curated corpus: clean → filter → mask → score → deduplicate → TFDS dataset, by datatrove.

Files are cut into tasks; a task that is done is never done again, so that a killed run goes on. The tasks, not the
processes, decide what comes out: any number of processes makes the same dataset. Everything is written inside the
folder given, which the caller renames when whole.
"""

import contextlib
import json
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from datatrove.executor import LocalPipelineExecutor
from datatrove.executor.base import PipelineExecutor

from slm import sample
from slm.corpus import benchmark_rows, curation_report, dataset, duplicates, lexicon, sources, steps
from slm.corpus.sources import CorpusConfig
from slm.progress import Progress
from slm.text import contamination, filters, privacy
from slm.text.morphology import Morphology
from slm.text.normalize import VERSION as NORMALIZER_VERSION
from slm.text.normalize import normalize

VERSION = 2  # raise it when the same sources and settings make another corpus
_PART_BYTES, _MOST_PARTS = 4_000_000, 16  # of a file; every part reads all of the file, if quickly
_GRAMMAR_MEGABYTES = 0.6  # of the text the project brings: how words follow each other
_POLL_SECONDS = 0.5
_PATIENCE = 4  # times an empty answer of squeue is believed not to be
Task = tuple[int, str, int, int]  # source, file, part, parts


def run(config: CorpusConfig, folder: Path, scorer: Callable[[list[str]], np.ndarray] | None = None) -> dict:
    """Makes the curated corpus of a config in `folder`; returns the report, which is also in `report.json`.

    Args:
      scorer: texts → probabilities of good quality, float [N]; sent to the processes.
    """
    started = time.perf_counter()
    folder = folder.absolute()
    if (folder / dataset.REPORT_FILE).exists():  # the run before was killed while it cleared up
        return _cleared(folder)
    tasks, sizes = _tasks(config)
    run_stage = _Stages(config, folder / "stages")
    texts = (normalize(document["text"]) for document in sample.documents(_GRAMMAR_MEGABYTES, seed=0))
    language = filters.Grammar.learn(texts, Morphology())
    if config.benchmarks and not (folder / "benchmarks.npz").exists():
        index = contamination.Index.build(benchmark_rows.rows(config.benchmarks))
        index.save(folder / "benchmarks.writing.npz")
        (folder / "benchmarks.writing.npz").rename(folder / "benchmarks.npz")
    places = [entry.surface for entry in lexicon.load(config.facilities)] if config.facilities else []
    minhash, kept, removed, shards = (folder / name for name in ("minhash", "kept", "removed", "shards"))
    curation = steps.curation(config, folder, tasks, language, places, scorer)
    if config.near_duplicates:
        run_stage("curate", [*curation, duplicates.Signatures(minhash / "signatures")], sizes)
        # datatrove reads these folders even where nothing was kept.
        (minhash / "pairs").mkdir(parents=True, exist_ok=True)
        run_stage("pairs", [duplicates.Pairs(minhash / "signatures", minhash / "pairs")],
                  [1] * duplicates.CONFIG.num_buckets)
        run_stage("clusters", [duplicates.Clusters(minhash / "pairs", minhash / "clusters")], [1])
    else:
        run_stage("curate", curation, sizes)
    found = minhash / "clusters" if config.near_duplicates else None
    run_stage("choose", [duplicates.Choose(kept, found, removed, len(tasks))], [1])
    run_stage("write", [steps.DropDuplicates(kept, removed), steps.Write(shards, config.validation_share)], sizes)
    made = {split: [] for split in dataset.SPLITS}
    for task in range(len(tasks)):
        for split, length in json.loads((shards / f"{task:05d}.json").read_text(encoding="utf-8")).items():
            made[split].append((shards / f"{split}-{task:05d}.array_record", length))
    report = curation_report.gather(folder / "stages", folder / "dropped")
    report |= dataset.name(folder, made, config.validation_share)
    if not curation_report.reconciles(report):
        raise RuntimeError(f"the report of {folder} does not add up: {report['documents_in']} documents in, "
                           f"{report['documents_out']} out, dropped {report['dropped']}; please report this")
    report["seconds"] = round(time.perf_counter() - started, 1)  # of this run, if it went on after a kill
    dataset.write_report(folder, report)
    return _cleared(folder)


def _cleared(folder: Path) -> dict:
    """Removes what only the making needed; returns the report."""
    for name in ("minhash", "kept", "removed", "shards", "stages"):
        shutil.rmtree(folder / name, ignore_errors=True)
    (folder / "benchmarks.npz").unlink(missing_ok=True)
    return json.loads((folder / dataset.REPORT_FILE).read_text(encoding="utf-8"))


def _tasks(config: CorpusConfig) -> tuple[list[Task], list[int]]:
    """What there is to read, cut into parts, and the bytes of each: by the files alone."""
    tasks, sizes = [], []
    for number, source in enumerate(config.sets()):
        for path in sources.paths(source):
            files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
            size = sum(file.stat().st_size for file in files)
            if str(path) == sources.SAMPLE:
                size = int(config.sample_megabytes * 1e6)
            parts = max(1, min(_MOST_PARTS, -(-size // _PART_BYTES)))
            # On a cluster the tasks run elsewhere; here a path stays as it was given, for it names documents.
            here = str(path) == sources.SAMPLE or config.executor == "local"
            name = str(path if here else path.absolute())
            tasks += [(number, name, part, parts) for part in range(parts)]
            sizes += [size // parts] * parts
    return tasks, sizes


class _Stages:
    """Runs pipelines one after the other with the executor of a config, and shows how far each is."""

    def __init__(self, config: CorpusConfig, folder: Path):
        self._config, self._folder = config, folder

    def __call__(self, name: str, pipeline: list, sizes: list[int]) -> None:
        """Runs the tasks of `pipeline` that are not done; `sizes` are what the progress counts."""
        executor = self._executor(pipeline, len(sizes), self._folder / name)
        with _progress(name, executor, sizes):
            executor.run()
            if self._config.executor == "slurm":
                _wait(executor)
        if left := executor.get_incomplete_ranks():
            raise RuntimeError(f"{len(left)} of {len(sizes)} tasks of the step {name!r} failed (first: {left[0]}): "
                               f"see {self._folder / name / 'slurm_logs'}; the same command goes on")

    def _executor(self, pipeline: list, tasks: int, logs: Path) -> PipelineExecutor:
        config = self._config
        options = {"pipeline": pipeline, "tasks": tasks, "logging_dir": str(logs)}
        if config.executor == "local":
            workers = min(config.workers or os.cpu_count() or 1, tasks)
            return LocalPipelineExecutor(**options, workers=workers)
        options |= _parse(config.executor_options) | {"workers": config.workers or -1}
        if config.executor == "slurm":
            from datatrove.executor import SlurmPipelineExecutor as Executor
            options = {"job_name": f"slm-{logs.name}", "mail_type": "NONE"} | options
        else:
            from datatrove.executor import RayPipelineExecutor as Executor
        try:
            return Executor(**options)
        except TypeError as error:
            raise ValueError(f"corpus.executor_options={config.executor_options!r} does not fit datatrove's "
                             f"{Executor.__name__}: {error}") from None


def _parse(options: str) -> dict[str, str | int]:
    """NAME=VALUE[,NAME=VALUE…]; whole numbers become numbers."""
    pairs = [pair.partition("=") for pair in options.split(",") if pair]
    if "tasks_per_job" in options:
        raise ValueError(f"corpus.executor_options={options!r}: tasks_per_job counts documents twice, leave it out")
    if wrong := [name for name, separator, _ in pairs if not separator]:
        raise ValueError(f"corpus.executor_options={options!r}: {wrong[0]!r} is not NAME=VALUE")
    return {name: int(value) if value.isdigit() else value for name, _, value in pairs}


@contextlib.contextmanager
def _progress(name: str, executor: PipelineExecutor, sizes: list[int]) -> Iterator[None]:
    """A bar of the work done, read from the tasks that are complete, wherever they run."""
    unit = "B" if max(sizes) > 1 else "task"
    done, bar = threading.Event(), Progress(total=sum(sizes), desc=name, unit=unit, unit_scale=unit == "B")

    def follow():
        while True:
            last = done.wait(_POLL_SECONDS)
            left = sum(sizes[rank] for rank in executor.get_incomplete_ranks())
            bar.update(bar.total - left - bar.n)
            if last:
                return

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        bar.close()


def _wait(executor: PipelineExecutor) -> None:
    """Until every task of a Slurm job is complete, or none of the job is left in the queue."""
    while executor.get_incomplete_ranks():
        job = str(executor.job_id)
        for _ in range(_PATIENCE):  # a controller that is busy for a moment is no end
            queue = subprocess.run(["squeue", "--noheader", "--jobs", job], capture_output=True, text=True)
            if queue.stdout.strip():
                break
            time.sleep(_POLL_SECONDS)
        else:
            return
        time.sleep(10 * _POLL_SECONDS)


def versions() -> list[int | str]:
    """Of the code that decides what a curated corpus holds, and of the sample text, whose grammar the rules learn."""
    grammar_text = "".join(document["text"] for document in sample.documents(_GRAMMAR_MEGABYTES, seed=0))
    return [dataset.VERSION, NORMALIZER_VERSION, filters.VERSION, privacy.VERSION, lexicon.VERSION,
            dataset.digest(grammar_text).hex()]

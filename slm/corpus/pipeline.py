"""Raw documents → curated corpus: clean → filter → mask → score → deduplicate → TFDS dataset, by datatrove.

Files are split into tasks; a finished task is never repeated, so that a killed run resumes. The result depends on the
tasks, not on the number of processes. Everything is written inside one folder, which the caller renames when whole.
"""

import contextlib
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from datatrove.executor import LocalPipelineExecutor
from datatrove.executor.base import PipelineExecutor

from slm import sample
from slm.corpus import benchmark_rows, curation_report, dataset, duplicates, lexicon, sources, steps
from slm.corpus.sources import CorpusConfig
from slm.files import read_json, write_json
from slm.progress import Progress
from slm.text import contamination, filters, privacy
from slm.text.bigram_pmi import BigramPMI
from slm.text.morphology import Morphology
from slm.text.normalize import VERSION as NORMALIZER_VERSION
from slm.text.normalize import normalize

VERSION = 3  # raise it when the same sources and settings make another corpus
_PART_BYTES, _MOST_PARTS = 4_000_000, 16  # of a file; the task of every part scans the whole file
_BIGRAM_MEGABYTES = 0.6  # of the bundled sample: which words follow each other
_POLL_SECONDS = 0.5
_EMPTY_QUEUES = 4  # empty answers of squeue before the job counts as ended
Task = tuple[int, str, int, int]  # source, file, part, parts


def run(config: CorpusConfig, folder: Path, scorer: Callable[[list[str]], np.ndarray] | None = None) -> dict:
    """Builds the curated corpus of a config in `folder`; returns the report, which is also in `report.json`.

    Args:
      scorer: texts → probabilities of good quality, float [N]; sent to the worker processes.

    Raises:
      RuntimeError: a task failed, or the report does not account for every document.
    """
    started = time.perf_counter()
    folder = folder.absolute()
    if (folder / dataset.REPORT_FILE).exists():  # an earlier run was killed while it cleaned up
        return _clean_up(folder)
    tasks, sizes = _tasks(config)
    run_stage = _Stages(config, folder / "stages")
    texts = (normalize(document["text"]) for document in sample.documents(_BIGRAM_MEGABYTES, seed=0))
    language = BigramPMI.learn(texts, Morphology())
    if config.benchmarks and not (folder / "benchmarks.npz").exists():
        index = contamination.Index.build(benchmark_rows.rows(config.benchmarks))
        index.save(folder / "benchmarks.writing.npz")
        (folder / "benchmarks.writing.npz").rename(folder / "benchmarks.npz")
    facilities = [entry.surface for entry in lexicon.load(config.facilities)] if config.facilities else []
    minhash, kept, removed, shards = (folder / name for name in ("minhash", "kept", "removed", "shards"))
    curation = steps.curation(config, folder, tasks, language, facilities, scorer)
    if config.near_duplicates:
        run_stage("curate", [*curation, duplicates.Signatures(minhash / "signatures")], sizes)
        # datatrove reads these folders even where nothing was kept.
        (minhash / "pairs").mkdir(parents=True, exist_ok=True)
        run_stage("pairs", [duplicates.Pairs(minhash / "signatures", minhash / "pairs")],
                  [1] * duplicates.CONFIG.num_buckets)
        run_stage("clusters", [duplicates.Clusters(minhash / "pairs", minhash / "clusters")], [1])
    else:
        run_stage("curate", curation, sizes)
    clusters = minhash / "clusters" if config.near_duplicates else None
    run_stage("choose", [duplicates.Choose(kept, clusters, removed, len(tasks))], [1])
    run_stage("write", [steps.DropDuplicates(kept, removed), steps.Write(shards, config.validation_share)], sizes)
    shard_files: dict[str, list[tuple[Path, int]]] = {split: [] for split in dataset.SPLITS}
    for task in range(len(tasks)):
        for split, length in read_json(shards / f"{task:05d}.json").items():
            shard_files[split].append((shards / f"{split}-{task:05d}.array_record", length))
    report = curation_report.gather(folder / "stages", folder / "dropped", config.excerpts)
    report |= dataset.to_tfds(folder, shard_files, config.validation_share)
    if not curation_report.reconciles(report):
        raise RuntimeError(f"the report of {folder} does not add up: {report['documents_in']} documents in, "
                           f"{report['documents_out']} out, dropped {report['dropped']}; please report this")
    report["seconds"] = round(time.perf_counter() - started, 1)  # of this process, if the run was resumed
    write_json(folder / dataset.REPORT_FILE, report)
    return _clean_up(folder)


def _clean_up(folder: Path) -> dict:
    """Removes the intermediate files; returns the report."""
    for name in ("minhash", "kept", "removed", "shards", "stages"):
        shutil.rmtree(folder / name, ignore_errors=True)
    (folder / "benchmarks.npz").unlink(missing_ok=True)
    return read_json(folder / dataset.REPORT_FILE)


def _tasks(config: CorpusConfig) -> tuple[list[Task], list[int]]:
    """The parts of all files, and the bytes of each part."""
    tasks, sizes = [], []
    for number, source in enumerate(config.sets()):
        for path in sources.paths(source):
            files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
            size = sum(file.stat().st_size for file in files)
            if str(path) == sources.SAMPLE:
                size = int(config.sample_megabytes * 1e6)
            parts = max(1, min(_MOST_PARTS, -(-size // _PART_BYTES)))
            # On a cluster tasks run in another folder. Locally a path stays as written, for it names documents.
            relative = str(path) == sources.SAMPLE or config.executor == "local"
            name = str(path if relative else path.absolute())
            tasks += [(number, name, part, parts) for part in range(parts)]
            sizes += [size // parts] * parts
    return tasks, sizes


class _Stages:
    """Runs pipelines one after the other with the executor of a config, and shows their progress."""

    def __init__(self, config: CorpusConfig, folder: Path):
        self._config, self._folder = config, folder

    def __call__(self, name: str, pipeline: list, sizes: list[int]) -> None:
        """Runs the unfinished tasks of `pipeline`; the progress counts their `sizes`."""
        executor = self._executor(pipeline, len(sizes), self._folder / name)
        with _progress(name, executor, sizes):
            executor.run()
            if self._config.executor == "slurm":
                _wait(executor)
        if left := executor.get_incomplete_ranks():
            raise RuntimeError(f"{len(left)} of {len(sizes)} tasks of the step {name!r} failed (first: {left[0]}): "
                               f"see {self._folder / name / 'slurm_logs'}, and run the same command again to resume")

    def _executor(self, pipeline: list, tasks: int, logs: Path) -> PipelineExecutor:
        config = self._config
        options: dict[str, Any] = {"pipeline": pipeline, "tasks": tasks, "logging_dir": str(logs)}
        if config.executor == "local":
            workers = min(config.workers or os.cpu_count() or 1, tasks)
            return LocalPipelineExecutor(**options, workers=workers)
        options |= _parse(config.executor_options) | {"workers": config.workers or -1}
        if config.executor == "slurm":
            from datatrove.executor import SlurmPipelineExecutor
            executor: type[PipelineExecutor] = SlurmPipelineExecutor
            options = {"job_name": f"slm-{logs.name}", "mail_type": "NONE"} | options
        else:
            from datatrove.executor import RayPipelineExecutor
            executor = RayPipelineExecutor
        try:
            return executor(**options)
        except TypeError as error:
            raise ValueError(f"corpus.executor_options={config.executor_options!r} does not fit datatrove's "
                             f"{executor.__name__}: {error}") from None


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
    """A progress bar of the complete tasks, wherever they run."""
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
    """Waits until every task of a Slurm job is complete, or the job has left the queue."""
    while executor.get_incomplete_ranks():
        job = str(executor.job_id)
        for _ in range(_EMPTY_QUEUES):  # a busy controller may answer with nothing for a moment
            queue = subprocess.run(["squeue", "--noheader", "--jobs", job], capture_output=True, text=True)
            if queue.stdout.strip():
                break
            time.sleep(_POLL_SECONDS)
        else:
            return
        time.sleep(10 * _POLL_SECONDS)


def versions() -> list[int | str]:
    """Versions of the code that decides a curated corpus, and a digest of the text that `BigramPMI` learns from."""
    bigram_text = "".join(document["text"] for document in sample.documents(_BIGRAM_MEGABYTES, seed=0))
    return [dataset.VERSION, NORMALIZER_VERSION, filters.VERSION, privacy.VERSION, lexicon.VERSION,
            dataset.digest(bigram_text).hex()]

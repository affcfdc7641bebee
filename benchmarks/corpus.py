"""The corpus pipeline: MB/s of every step on one core, with more processes, beside hojichar; memory by size of text.

    .venv/bin/python -m benchmarks.corpus --text='DATA/text/*.jsonl.gz'          # pip install hojichar for its filters
    .venv/bin/python -m benchmarks.corpus --memory=0.25,1                        # gigabytes of generated text

Speeds are UTF-8 megabytes of the text read, by the wall clock; a step's by the time inside it, over all documents that
reached it. Memory is the sum of the resident sizes of all processes of a run, looked at four times a second.
"""

import argparse
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from slm import sample
from slm.corpus import sources

_RUN = ("import sys, json; from pathlib import Path; from slm.corpus import pipeline; from slm.corpus.sources import "
        "CorpusConfig; report = pipeline.run(CorpusConfig(files=sys.argv[1], curated=True, workers=int(sys.argv[2])), "
        "Path(sys.argv[3])); print(json.dumps(report))")
# Those nearest to our rules, with their default arguments.
_HOJICHAR = ("AcceptJapanese", "DiscardAdultContentJa", "DiscardAds", "CharRepetitionRatioFilter",
             "DiscardTooManyEndingEllipsis", "MaskPersonalInformation")


def curate(files: str, workers: int, watch: bool = False) -> tuple[dict, float, float]:
    """A run in a session of its own: its report, seconds, and peak resident megabytes of all its processes."""
    with tempfile.TemporaryDirectory(dir=".") as folder:
        started, peak = time.perf_counter(), 0
        process = subprocess.Popen([sys.executable, "-c", _RUN, files, str(workers), folder], text=True,
                                   stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True)
        while watch and process.poll() is None:
            peak = max(peak, _resident(process.pid))
            time.sleep(0.25)
        output, _ = process.communicate()
        seconds = time.perf_counter() - started
    if process.returncode:
        sys.exit(f"the run of {files} with {workers} workers failed")
    return json.loads(output), seconds, peak / 1e6


def _resident(session: int) -> int:
    """Bytes resident in the processes of a session (Linux)."""
    total = 0
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if os.getsid(int(path.name)) == session:
                total += int((path / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        except (OSError, IndexError):
            continue
    return total


def speeds(files: str) -> None:
    size = sum(len(text.encode()) for text in _texts(files))
    print(f"{size / 1e6:.1f} MB of text, {os.cpu_count()} cores\n\n| processes | seconds | MB/s | MB/s a process |\n"
          "|---:|---:|---:|---:|")
    reports = {}
    for workers in (1, 2, 4):
        if workers > 2 * (os.cpu_count() or 1):
            continue
        reports[workers], seconds, _ = curate(files, workers)
        print(f"| {workers} | {seconds:.1f} | {size / 1e6 / seconds:.2f} | {size / 1e6 / seconds / workers:.2f} |",
              flush=True)
    share = size / reports[1]["characters_in"]  # bytes a character
    print("\n| step, one process | seconds | MB/s |\n|---|---:|---:|")
    for step in reports[1]["steps"]:
        through = step.get("characters_in", reports[1]["characters_in"]) * share / 1e6
        print(f"| {step['step']} | {step['seconds']:.2f} | {through / max(0.005, step['seconds']):,.1f} |")
    _hojichar(files)


def _texts(files: str) -> list[str]:
    return [document.text for path in sources.find(files.split(",")) for document in sources.read(path)]


def _hojichar(files: str) -> None:
    try:
        from hojichar import Compose, document_filters
    except ModuleNotFoundError:
        print("\nhojichar is not installed: pip install hojichar")
        return
    texts = _texts(files)
    size = sum(len(text.encode()) for text in texts) / 1e6
    print("\n| hojichar, default arguments | seconds | MB/s |\n|---|---:|---:|")
    for name in _HOJICHAR:
        compose = Compose([getattr(document_filters, name)()])
        started = time.perf_counter()
        for text in texts:
            compose(text)
        seconds = time.perf_counter() - started
        print(f"| {name} | {seconds:.2f} | {size / seconds:.1f} |", flush=True)


def generate(path: Path, gigabytes: float) -> None:
    """Documents of forty sentences each, drawn from those of the project's text: all different, few nearly so."""
    pool = sorted({sentence for document in sample.documents(4, 0)
                   for sentence in re.findall("[^。\n]+。", document["text"])})
    rng, written = random.Random(0), 0
    with open(path, "w", encoding="utf-8") as file:
        while written < gigabytes * 1e9:
            text = "".join(rng.choices(pool, k=40))
            written += len(text.encode())
            file.write(json.dumps({"text": text, "source": "generated"}, ensure_ascii=False) + "\n")


def memory(sizes: list[float]) -> None:
    print("| generated text, GB | documents | out | seconds | MB/s | peak resident MB |")
    print("|---:|---:|---:|---:|---:|---:|")
    peaks = []
    with tempfile.TemporaryDirectory(dir=".") as folder:
        for size in sizes:
            path = Path(folder, f"{size}.jsonl")
            generate(path, size)
            report, seconds, peak = curate(str(path), os.cpu_count() or 1, watch=True)
            peaks.append(peak)
            print(f"| {size} | {report['documents_in']:,} | {report['documents_out']:,} | {seconds:.0f} | "
                  f"{size * 1e3 / seconds:.2f} | {peak:.0f} |", flush=True)
    if len(sizes) > 1:
        print(f"\nslope: {(peaks[-1] - peaks[0]) / (sizes[-1] - sizes[0]):.0f} MB resident a GB of text")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", help="GLOB[,GLOB…] of documents")
    parser.add_argument("--memory", help="gigabytes[,gigabytes…] to generate")
    flags = parser.parse_args()
    if flags.text:
        speeds(flags.text)
    if flags.memory:
        memory([float(size) for size in flags.memory.split(",")])


if __name__ == "__main__":
    main()

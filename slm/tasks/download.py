"""The benchmarks, fetched by git at the revisions that were studied; nothing is fetched unless called.

Git's own hashes check a checkout. `checksums.json` holds the sha256 of the files that are read, as a second check, and
to recognise a changed copy. It lacks IgakuQA's years 2021 and 2022, which the commit's hash alone checks.
Its `datasets/all/JCSTS.csv` is a rebuilt one (see `jcsts`).
"""

import csv
import dataclasses
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from slm import files


@dataclasses.dataclass(frozen=True)
class Repository:
    """Where a benchmark lives.

    Attributes:
      revision: a commit's hash, or its beginning.
      files: patterns of the files that are read.
      setting: what points at a copy.
    """
    url: str
    revision: str
    files: tuple[str, ...]
    setting: str = ""


REPOSITORIES = {
    "jmed_llm": Repository("https://github.com/sociocom/JMED-LLM", "3774a34c",  # of 2024-09-22
                           ("datasets/*.csv", "datasets/all/*.csv"), "--config.jmed_llm.data_dir=FOLDER"),
    "igakuqa": Repository("https://github.com/jungokasai/IgakuQA", "2bc4c3d159cf5505f6253d24a909fbd53237e239",
                          ("data/*/*-[A-F].jsonl", "data/*/*-[A-F]_metadata.jsonl", "scripts/prompts/prompt.jsonl"),
                          "--config.igakuqa.data_dir=FOLDER"),
    "jcsts": Repository("https://github.com/sociocom/Japanese-Clinical-STS",
                        "23ae07902a03a0be378cb781dfb63af48dd2d677", ("dataset_JA_Clinical_STS.xls",)),
}
CHECKSUMS: dict[str, dict[str, str]] = json.loads(Path(__file__).with_name("checksums.json").read_text("utf-8"))
REBUILT = "datasets/all/JCSTS.csv"

_TIMEOUT = 900  # seconds of one git command
_OPTIONS = [f"option{letter}" for letter in "ABCDEF"]


def jmed_llm(folder: Path) -> Path:
    """A checkout of JMED-LLM under `folder`, made once.

    Raises:
      ConnectionError, FileNotFoundError: no network, no git; the message says how to do without.
      ValueError: a file that is not the one that was studied.
    """
    return _checkout("jmed_llm", folder)


def igakuqa(folder: Path) -> Path:
    """A checkout of IgakuQA under `folder`, made once. Raises as `jmed_llm` does."""
    return _checkout("igakuqa", folder)


def jcsts(folder: Path, options_from: Path) -> Path:
    """The pairs that JCSTS was drawn from, as a file `JCSTS.csv` with the columns of JMED-LLM, made once.

    JMED-LLM asks for the similarity of two sentences of Japanese-Clinical-STS, whose scores 5 … 0 are its answers
    A … F. The file is in the order of the sheet. All of the test's rows must be in it, which shows that it is right.

    Args:
      options_from: JMED-LLM's `datasets/jcsts.csv`, all of whose rows have the same options.

    Raises:
      As `jmed_llm`, and ValueError where the sheet or `options_from` is not as described.
    """
    options_from = Path(options_from)
    test = _test_rows(options_from)
    repository = REPOSITORIES["jcsts"]
    digest = hashlib.sha256(repository.revision.encode() + options_from.read_bytes()).hexdigest()[:8]
    path = Path(folder) / f"JCSTS-{digest}" / "JCSTS.csv"
    if path.exists():
        return path
    sheet = _checkout("jcsts", folder) / repository.files[0]
    if not sheet.exists():
        raise FileNotFoundError(f"{sheet} is missing: remove {sheet.parent} to fetch it again")
    options = [test[0][name] for name in _OPTIONS]
    rows = [(f"以下の2つの文の意味の類似度は？\nS1: {first}\nS2: {second}", *options, "ABCDEF"[5 - score])
            for first, second, score in _pairs(sheet, _cells(sheet))]
    built = {(question, answer) for question, *_, answer in rows}
    for index, row in enumerate(test):
        if (row["question"], row["answer"]) not in built:
            raise ValueError(f"row {index} of {options_from} is not among the {len(rows)} pairs of {sheet}: the test "
                             "was not drawn from these; give the two files as they were published")
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows([("question", *_OPTIONS, "answer"), *rows])
    with files.written_aside(path) as aside:
        aside.write_bytes(text.getvalue().encode())
    if _sha256(path) != CHECKSUMS["jmed_llm"][REBUILT]:
        print(f"{path} holds all test rows, but is not the rebuilt file that was studied: sha256 {_sha256(path)}, that "
              f"one has {CHECKSUMS['jmed_llm'][REBUILT]}", file=sys.stderr, flush=True)
    return path


def check(folder: Path, benchmark: str) -> list[str]:
    """The files of a copy that nothing vouches for, as paths inside it: scores on them may not be comparable.

    A file is vouched for by `checksums.json`, or by git where `folder` holds the revision's history. So the years
    2021 and 2022 of IgakuQA are among the answer if they were copied without it.
    """
    folder, repository, known = Path(folder), REPOSITORIES[benchmark], CHECKSUMS[benchmark]
    paths = sorted(path for pattern in repository.files for path in folder.glob(pattern))
    names = [path.relative_to(folder).as_posix() for path in paths]
    unknown = [(name, path) for name, path in zip(names, paths) if _sha256(path) != known.get(name)]
    blobs = _blobs(folder, repository.revision) if unknown else {}
    return [name for name, path in unknown if _blob_hash(path) != blobs.get(name)]


def _checkout(name: str, folder: Path) -> Path:
    repository = REPOSITORIES[name]
    path = Path(folder) / f"{urlsplit(repository.url).path.rpartition('/')[2]}-{repository.revision[:8]}"
    if not path.exists():
        aside = path.with_name(f"{path.name}.writing")
        if aside.exists():  # of a process that was killed; a few megabytes
            shutil.rmtree(aside)
        path.parent.mkdir(parents=True, exist_ok=True)
        print(f"fetching {repository.url} at {repository.revision} to {path}", file=sys.stderr, flush=True)
        # A server that cannot leave out blobs sends all. Line ends stay as they are, whatever the user's settings.
        _fetch(repository, path, "clone", "--filter=blob:none", "--no-checkout", "--config", "core.autocrlf=false",
               repository.url, str(aside))
        _fetch(repository, path, "-C", str(aside), "checkout", "--detach", repository.revision)
        head = _fetch(repository, path, "-C", str(aside), "rev-parse", "HEAD").strip()
        if not head.startswith(repository.revision):  # a branch or tag can have the name of a shortened hash
            raise ValueError(f"{repository.url} gave the revision {head}, not {repository.revision}: give a copy of "
                             f"the latter, {_instead(repository, path)}")
        _refuse_changed(aside, name)
        aside.rename(path)
    _refuse_changed(path, name)
    return path


def _refuse_changed(folder: Path, name: str) -> None:
    for file, wanted in CHECKSUMS.get(name, {}).items():
        if file == REBUILT:  # where a repository has one, git has checked it
            continue
        if not (folder / file).exists():
            raise FileNotFoundError(f"{folder / file} is missing: remove {folder} to fetch it again")
        actual = _sha256(folder / file)
        if actual != wanted:
            raise ValueError(f"{folder / file} has the sha256 {actual}, the file that was studied {wanted}: remove "
                             f"{folder} to fetch it again, or name a folder with {REPOSITORIES[name].setting} to score "
                             "a changed benchmark")


def _fetch(repository: Repository, path: Path, *arguments: str) -> str:
    """Runs git; what it prints."""
    try:
        done = _git(*arguments)
    except FileNotFoundError:
        raise FileNotFoundError(f"git is not on PATH, and {repository.url} is fetched by it: install git, or "
                                f"{_instead(repository, path)}") from None
    except subprocess.TimeoutExpired:
        reason = f"no end after {_TIMEOUT} s"
    else:
        if not done.returncode:
            return done.stdout
        reason = " ".join(done.stderr.split())[-300:]
    raise ConnectionError(f"{repository.url} could not be fetched at {repository.revision} from "
                          f"{urlsplit(repository.url).hostname or 'this machine'} ({reason}): "
                          f"{_instead(repository, path)}")


def _instead(repository: Repository, path: Path) -> str:
    point = f"give {repository.setting}" if repository.setting else f"copy FOLDER to {path}"
    return (f"on a machine with a network run `git clone {repository.url} FOLDER && git -C FOLDER checkout "
            f"{repository.revision}`, and {point}")


def _git(*arguments: str) -> subprocess.CompletedProcess:
    environment = os.environ | {"GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}  # never waits for a password
    return subprocess.run(["git", *arguments], capture_output=True, text=True, encoding="utf-8", errors="replace",
                          stdin=subprocess.DEVNULL, env=environment, timeout=_TIMEOUT)


def _blobs(folder: Path, revision: str) -> dict[str, str]:
    """{file: git's hash of it at the revision}; empty where there is no git or no such history."""
    try:
        done = _git("-C", str(folder), "ls-tree", "-r", "-z", revision)
    except FileNotFoundError:
        return {}
    lines = done.stdout.split("\0")[:-1] if not done.returncode else []
    return {file: entry.split()[2] for entry, _, file in (line.partition("\t") for line in lines)}


def _blob_hash(path: Path) -> str:
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _test_rows(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing: give the path of JMED-LLM's datasets/jcsts.csv")
    with open(path, encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    missing = [name for name in ("question", *_OPTIONS, "answer") if not rows or rows[0].get(name) is None]
    if missing:
        raise ValueError(f"{path} has no {', '.join(missing)}: give JMED-LLM's datasets/jcsts.csv")
    for index, row in enumerate(rows):
        if [row[name] for name in _OPTIONS] != [rows[0][name] for name in _OPTIONS]:
            raise ValueError(f"{path}, row {index} has other options than row 0: those of all pairs cannot be known; "
                             "give JMED-LLM's datasets/jcsts.csv as it was published")
    return rows


def _cells(path: Path) -> list[Sequence[Any]]:
    """The first sheet's rows that are not empty. A sheet's name does not show which of two formats it has."""
    start = path.read_bytes()[:4]
    try:
        if start == b"\xd0\xcf\x11\xe0":
            import xlrd
            sheet = xlrd.open_workbook(path, logfile=io.StringIO()).sheet_by_index(0)
            rows = [sheet.row_values(index) for index in range(sheet.nrows)]
        elif start == b"PK\3\4":
            import openpyxl
            with open(path, "rb") as file:
                rows = list(openpyxl.load_workbook(file, read_only=True).worksheets[0].iter_rows(values_only=True))
        else:
            raise ValueError(f"{path} is no Excel sheet (it begins with {start!r}): remove {path.parent} to fetch it "
                             "again")
    except ImportError as error:
        raise ModuleNotFoundError(f"{path} is read by {error.name}, which is not installed: run `pip install "
                                  f"{error.name}`") from None
    return [row for row in rows if any(cell not in (None, "") for cell in row)]


def _pairs(path: Path, rows: list[Sequence[Any]]) -> list[tuple[str, str, int]]:
    """(sentence, sentence, score) of each row. Columns are recognised by their content: they are not documented."""
    for body in (rows, rows[1:]):  # without or with a row of names
        columns = list(zip(*body))
        scores = [index for index, column in enumerate(columns) if all(_score(cell) is not None for cell in column)]
        texts = [index for index, column in enumerate(columns) if index not in scores
                 and all(isinstance(cell, str) and cell.strip() for cell in column)]
        if len(texts) == 2 and len(scores) == 1:
            return [(row[texts[0]], row[texts[1]], int(row[scores[0]])) for row in body]
    raise ValueError(f"{path} does not show its pairs: of its {len(rows)} rows, {len(texts)} columns hold texts and "
                     f"{len(scores)} hold scores 0 to 5, where 2 and 1 are needed; put a file {REBUILT} into the copy "
                     f"of JMED-LLM and give {REPOSITORIES['jmed_llm'].setting}")


def _score(cell: Any) -> int | None:
    try:
        value = float(cell)
    except (TypeError, ValueError):
        return None
    return int(value) if value in range(6) else None

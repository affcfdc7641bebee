"""The annotate job: one instruction over many records, written as JSON Lines.

A grammar constrains each answer, so every line can be parsed, and what is extracted is copied from the record. Lines
are written whole and in the order of the records; the same command resumes after a kill, and each record has one line.
"""

import collections
import dataclasses
import hashlib
import itertools
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from slm import process
from slm.inference.labeller import Labeller
from slm.inference.sampling import Settings
from slm.local import instructions, label_records, runtime
from slm.local.gguf_metadata import read_gguf_metadata
from slm.local.instructions import Form, Instruction
from slm.local.records import TEXT_COLUMN, Record, find_files, read_records
from slm.local.runtime import LlamaCpp, RuntimeConfig
from slm.progress import Progress
from slm.text import chat
from slm.text.normalize import normalize
from slm.text.tokenizer import SETTINGS_FILE, Tokenizer

NOTE = "Written by a language model, checked by nobody: not medical advice, and no ground to decide on a patient."
ANNOTATIONS_FILE = "annotations.jsonl"

_NAMED = 20  # files that are passed over
_WINDOW = 4  # records in work for each that is computed; more keep all busy while a long one holds up the writing


@dataclasses.dataclass(frozen=True)
class AnnotateConfig:
    """The annotate job."""
    instruction: Instruction
    job: str = "annotate"
    variant: str = "diseases"
    records: str = ""  # a folder of .txt files, a .csv or .jsonl file, or a GLOB of such files
    text_column: str = TEXT_COLUMN  # of tables, as id_column
    id_column: str = ""  # empty: the number of the row, from 1; of text files it is their path
    checkpoint: str = ""  # with label heads, of kind labels; empty: the newest under runs/
    runtime: RuntimeConfig = RuntimeConfig()
    settings: Settings = Settings(temperature=0.0, max_tokens=256)
    parallel: int = 2  # records computed together


def run(config: AnnotateConfig, workdir: Path) -> dict:
    """Annotates the records that `annotations.jsonl` in the workdir lacks; returns what `result.json` holds.

    Each line has `id`, `by` (a hash of model file, instruction and settings), `sha256` (of the record, its beginning),
    `cut_tokens` (left out of the record's middle to fit the context), `finish` ("stop", or "length" if max_tokens
    ended the answer), and
      extract: `entities`, each {text, start, end} in characters of `slm.text.normalize.normalize(record)`. They are
        spans of whole morphemes within a sentence. Of a record of more than 4,000 characters they are any strings,
        and one that does not occur in it is {text, in_text: false}.
      classify: `label`; null if the answer ended before a label was complete.
      summarise: `summary`.
      labels: `labels` and `entities`, as `label_records.lines` gives them, with confidences.
    A record that failed has `error` instead of an answer; delete its line to retry it.

    Raises:
      ValueError, FileNotFoundError: records, instruction or model that cannot be used, or lines of another run.
      RuntimeError: all records failed, or another process is writing to the workdir.
    """
    if config.parallel < 1:
        raise ValueError(f"parallel={config.parallel}: give at least 1")
    instruction = instructions.read(config.instruction)
    model, by, answer = _labeller(config) if instruction.kind == "labels" else _generator(config, Form(instruction))
    path = workdir / ANNOTATIONS_FILE
    workdir.mkdir(parents=True, exist_ok=True)
    counts: collections.Counter[str] = collections.Counter()
    done = _read_done(path, by, counts)
    records, left = _survey(config, done)
    seconds = 0.0
    if left:
        lines = answer(_missing(config, done))  # loads the model
        begun = time.perf_counter()
        with (open(path, "ab") as file,
              Progress(total=records, initial=records - left, desc="annotate", unit="record") as bar):
            for line in lines:
                file.write(json.dumps({"id": line["id"], "by": by} | line, ensure_ascii=False).encode() + b"\n")
                file.flush()
                _count(counts, line)
                bar.update()
        seconds = time.perf_counter() - begun
    if counts["errors"] == counts["lines"]:
        raise RuntimeError(f"all {counts['errors']} records failed: {path} says why under 'error'; fix it, delete the "
                           "file, and run again")
    return {"records": records, "done_now": left, "seconds": process.seconds(),
            "passed_over": len(find_files(config.records).passed_over),
            "records_per_second": left / seconds if left else 0.0,
            **{name: counts[name] for name in ("cut", "errors", "unfinished", "not_in_text")},
            "annotations": str(path), "model": str(model), "by": by, "note": NOTE}


# Records ------------------------------------------------------------------------------------------------------

def _records(config: AnnotateConfig) -> Iterator[Record]:
    return read_records(config.records, config.text_column, config.id_column)


def _survey(config: AnnotateConfig, done: Mapping[str, str]) -> tuple[int, int]:
    """Reads all records once, so that errors surface now rather than after hours; names files that are passed over.

    Returns:
      The number of records, and of those not yet annotated.

    Raises:
      ValueError: an invalid record, a repeated id, or a record that changed since it was annotated.
    """
    if passed_over := find_files(config.records).passed_over:
        names = ", ".join(map(str, passed_over[:_NAMED])) + (", …" if len(passed_over) > _NAMED else "")
        print(f"{len(passed_over)} files of {config.records} are passed over (records are .txt files, with a GLOB also "
              f".csv and .jsonl): {names}", file=sys.stderr)
    seen: dict[str, int] = {}
    left = 0
    for number, record in enumerate(_records(config)):
        if (first := seen.setdefault(record.id, number)) != number:
            other = next(itertools.islice(_records(config), first, None)).location
            raise ValueError(f"{record.location} has the id of {other}: ids must be unique; leave id_column empty to "
                             "number the rows")
        if done.get(record.id, record.sha256) != record.sha256:
            raise ValueError(f"{record.location} changed since its id was annotated: give another --workdir, or an "
                             "id_column whose ids stay with their records")
        left += record.id not in done
    return len(seen), left


def _missing(config: AnnotateConfig, done: Mapping[str, str]) -> Iterator[Record]:
    return (record for record in _records(config) if record.id not in done)


# Answers ------------------------------------------------------------------------------------------------------

_Answer = Callable[[Iterator[Record]], Iterator[dict]]  # records → their lines


def _labeller(config: AnnotateConfig) -> tuple[Path, str, _Answer]:
    """(model, hash of all that decides an answer, what answers) of a checkpoint with label heads."""
    workdir, content = label_records.identity(config.checkpoint)
    return workdir, _hash([instructions.VERSION, content]), (
        lambda records: label_records.lines(Labeller.load(workdir), records))


def _generator(config: AnnotateConfig, form: Form) -> tuple[Path, str, _Answer]:
    """The same of a GGUF file that writes its answers."""
    gguf = _find_gguf(config.runtime)
    tokenizer = runtime.tokenizer_of(gguf)
    _refuse_without_room(config, form, gguf, tokenizer)
    by = _hash([instructions.VERSION, _content(gguf), _content(gguf.parent / runtime.TOKENIZER_FOLDER / SETTINGS_FILE),
                dataclasses.asdict(form.instruction), dataclasses.asdict(config.settings), config.runtime.context])

    def answer(records: Iterator[Record]) -> Iterator[dict]:
        return _annotate(config, runtime.load_gguf(gguf, config.runtime, config.parallel, tokenizer), form, records)
    return gguf, by, answer


def _find_gguf(config: RuntimeConfig) -> Path:
    path = runtime.find(config.model)
    if not path:
        raise FileNotFoundError(f"{config.model or 'runs/'} holds no GGUF file, which annotating needs: export a "
                                "checkpoint with python -m slm.main --config=configs/export.py:gguf "
                                "--config.checkpoint=WORKDIR")
    return path


def _refuse_without_room(config: AnnotateConfig, form: Form, gguf: Path, tokenizer: Tokenizer) -> None:
    """Raises a `ValueError` if the instruction and the longest answer leave no room for a record."""
    context = runtime.usable_context(config.runtime.context, read_gguf_metadata(gguf).context_length)
    limit = context - config.settings.max_tokens
    bare = chat.encode(tokenizer, form.messages(""), reply=True).ids
    if len(bare) >= limit:
        raise ValueError(f"the instruction has {len(bare)} tokens, and max_tokens={config.settings.max_tokens} leaves "
                         f"{limit} of the model's context of {context}: shorten one of them")


def _annotate(config: AnnotateConfig, model: LlamaCpp, form: Form, records: Iterator[Record]) -> Iterator[dict]:
    """The lines of records, in their order; `config.parallel` are computed together."""
    limit = model.context - config.settings.max_tokens
    stopped = threading.Event()
    waiting: collections.deque[Future] = collections.deque()
    with ThreadPoolExecutor(config.parallel) as pool:
        try:
            for record in records:
                text = normalize(record.text)
                prompt = chat.encode(model.tokenizer, form.messages(text), limit, reply=True)
                line = {"id": record.id, "sha256": record.sha256, "cut_tokens": prompt.cut}
                request = model.request(prompt.ids, config.settings)
                request["grammar"] = form.grammar(text, model.tokenizer.borders)
                waiting.append(pool.submit(_line, line, text, request, model, form, stopped))
                if len(waiting) == _WINDOW * config.parallel:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            stopped.set()
            pool.shutdown(cancel_futures=True)


def _line(line: dict, text: str, request: dict, model: LlamaCpp, form: Form, stopped: threading.Event) -> dict:
    try:
        answer, finish = _complete(model.complete, request, stopped)
        return line | form.read(answer, text) | {"finish": finish}
    except (ValueError, RuntimeError) as error:  # of this record alone
        return line | {"error": str(error)[:500]}


def _complete(complete: Callable, request: dict[str, Any], stopped: threading.Event) -> tuple[str, str]:
    pieces, finish, errors = [], "", []

    def take(chunk: dict) -> bool:
        nonlocal finish
        if "error" in chunk:
            errors.append(chunk["error"]["message"])
        for choice in chunk.get("choices", ()):
            pieces.append(choice["text"])
            finish = choice["finish_reason"] or finish
        return stopped.is_set()

    complete(request, take)
    if errors or not finish:
        raise RuntimeError(f"llama.cpp: {errors[0] if errors else 'it ended without an answer'}")
    return "".join(pieces), finish


# The file -----------------------------------------------------------------------------------------------------

def _read_done(path: Path, by: str, counts: collections.Counter) -> dict[str, str]:
    """{id: hash of the record} of the existing lines, which are counted; a torn last line is removed.

    Raises:
      ValueError: a line that is not an annotation, or is of another model or instruction.
    """
    done: dict[str, str] = {}
    if not path.exists():
        return done
    with open(path, "r+b") as file:
        offset = 0
        for number, raw in enumerate(file, 1):
            if not raw.endswith(b"\n"):
                file.truncate(offset)
                break
            offset += len(raw)
            try:
                line = json.loads(raw)
                id, sha256, other = line["id"], line["sha256"], line["by"]
            except (ValueError, KeyError, TypeError):
                raise ValueError(f"{path}, line {number} is not an annotation: give another --workdir") from None
            if other != by:
                raise ValueError(f"{path}, line {number} was written by another model file, instruction or settings: "
                                 "give another --workdir, or what the run started with")
            if id in done:
                raise ValueError(f"{path}, line {number} repeats an id: give another --workdir")
            done[id] = sha256
            _count(counts, line)
    return done


def _count(counts: collections.Counter, line: Mapping[str, Any]) -> None:
    counts.update(lines=1, cut=line["cut_tokens"] > 0, errors="error" in line,
                  unfinished=line.get("finish") == "length",
                  not_in_text=sum("in_text" in entity for entity in line.get("entities", ())))


def _content(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, ensure_ascii=False, sort_keys=True).encode()).hexdigest()[:12]

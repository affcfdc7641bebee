"""The table of jobs, and the products they need: a job that misses one makes it and says so.

A product (corpus, dictionary, segmented shards, tokenizer, token stream) lives in `<kind>-<fingerprint>`; the
fingerprint covers all that went into it. It is written aside and renamed when whole, so that a folder under
its own name is never half a product.
"""

import dataclasses
import fcntl
import functools
import hashlib
import importlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from slm import config as configs

PRODUCTS = Path("runs", "products")
CONFIG_FILE, RESULT_FILE = "config.json", "result.json"


@dataclasses.dataclass(frozen=True)
class Job:
    """What `--config=configs/<name>.py` runs."""
    summary: str
    config: str  # MODULE:CLASS, imported only when the job runs
    run: Callable[[Any, Path, float], dict]
    goes_on: bool = False  # the same command again goes on where it stopped; others begin anew
    # What `--prepare` does, for a job that several processes run: makes the products they need, and returns the folder.
    prepare: Callable[[Any], Path] | None = None

    def config_class(self) -> type:
        module, name = self.config.split(":")
        return getattr(importlib.import_module(module), name)


def run(name: str, config: Any, workdir: Path, started: float) -> dict:
    """Runs a job in its workdir, which then holds `config.json`, `result.json` and what the job makes."""
    job = JOBS[name]
    first = True
    if job.prepare:
        from slm import distributed
        distributed.initialize()
        first = distributed.is_first()
    if first:
        if job.goes_on:
            _refuse_other(workdir, config)
        workdir.mkdir(parents=True, exist_ok=True)
        _write_json(workdir / CONFIG_FILE, {"config": dataclasses.asdict(config), "versions": _versions(),
                                            "revision": _revision(), "command": sys.argv})
    result = job.run(config, workdir, started)
    if first:
        _write_json(workdir / RESULT_FILE, result)
    return result


def prepare(name: str, config: Any) -> Path:
    """Makes what the processes of a run will need, on one machine, and returns the folder to give them."""
    job = JOBS[name]
    if not job.prepare:
        raise ValueError(f"configs/{name}.py has nothing to prepare: run it without --prepare")
    return job.prepare(config)


# Jobs ---------------------------------------------------------------------------------------------------------

def _corpus(config, workdir: Path, started: float) -> dict:
    folder = corpus(config.corpus)
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    long = ("examples", "steps", "contaminated_documents", "dropped_characters")  # they are in the report and the card
    print(json.dumps({key: value for key, value in report.items() if key not in long}, indent=2, ensure_ascii=False))
    if config.corpus.curated:
        print(f"{folder}/README.md is its card; other jobs read it with the same --config.corpus settings, curated=true"
              " among them")
    return {**report, "corpus": str(folder), "seconds": time.perf_counter() - started}


def _textbooks(config, workdir: Path, started: float) -> dict:
    from slm.corpus import textbooks
    contaminated = None
    if config.benchmarks:
        from slm.corpus import benchmark_rows
        from slm.text import contamination
        contaminated = contamination.Index.build(benchmark_rows.rows(config.benchmarks)).find
    report = textbooks.run(config, workdir, contaminated)
    print(json.dumps(report, indent=2, ensure_ascii=False))
    return report | ({} if config.dry_run else {"documents": str(workdir / "documents.jsonl")})


def _quality(config, workdir: Path, started: float) -> dict:
    from slm.quality import training
    report = training.run(config, workdir)
    print(json.dumps(report, indent=2, ensure_ascii=False))
    return report


def _tokenizer(config, workdir: Path, started: float) -> dict:
    folder = tokenizer(config.tokenizer, config.corpus)
    result = {"tokenizer": str(folder), "vocabulary_size": config.tokenizer.size}
    if config.compare:
        from slm.corpus import comparison
        ipadic_alone = dataclasses.replace(config.tokenizer, lexicons="none")
        rows = comparison.compare(
            config.tokenizer, segmented(ipadic_alone, config.corpus), dictionary(config.tokenizer), folder)
        table = comparison.markdown(rows)
        (workdir / "comparison.md").write_text(table + "\n", encoding="utf-8")
        print(table)
        result["comparison"] = {label: dataclasses.asdict(measures) for label, measures in rows.items()}
    return {**result, "seconds": time.perf_counter() - started}


def _pretrain(config, workdir: Path, started: float) -> dict:
    from slm import distributed
    from slm.train import pretrain
    made = {}
    if config.stream:
        stream_folder = Path(config.stream)
    elif distributed.processes() > 1:
        raise ValueError(f"{distributed.processes()} processes do not make a token stream together: make it on one "
                         f"machine with python -m slm.main --config=configs/{config.job}.py:{config.variant} --prepare "
                         "and the same settings, copy the folder it prints to every host, and give it as "
                         "--config.stream=FOLDER")
    else:
        stream_folder = _prepare_pretrain(config)
        made = {"corpus": str(corpus(config.corpus)), "tokenizer": str(tokenizer(config.tokenizer, config.corpus))}
    # Beside the checkpoints, so that a workdir can be carried away whole.
    if distributed.is_first() and stream_folder.exists() and not (workdir / "tokenizer").exists():
        aside = workdir / "tokenizer.writing"
        shutil.copytree(stream_folder / "tokenizer", aside, dirs_exist_ok=True)
        aside.rename(workdir / "tokenizer")
    result = pretrain.run(config, workdir, stream_folder, started)
    result |= made | {"stream": str(stream_folder),
                      "checkpoints": config.train.checkpoints or str(workdir / "checkpoints")}
    if distributed.is_first():
        print(f"validation bits per byte {result['validation_bits_per_byte']:.4f} after {result['steps']} steps; "
              f"try python -m slm.main --config=configs/generate.py --config.checkpoint={workdir}")
    return result


def _prepare_pretrain(config) -> Path:
    return stream(config.tokenizer, config.corpus)


def _plan(config, workdir: Path, started: float) -> dict:
    from slm.train import plan
    return plan.run(config, workdir)


def _generate(config, workdir: Path, started: float) -> dict:
    from slm import generate
    return generate.run(config, workdir)


def _sft(config, workdir: Path, started: float) -> dict:
    from slm.train import sft
    result = sft.run(config, workdir, started)
    from slm import distributed
    if distributed.is_first():
        print(f"validation loss {result['validation_loss']:.4f}; "
              f"try python -m slm.main --config=configs/evaluate.py --config.checkpoint={workdir}")
    return result


def _prepare_sft(config) -> Path:
    """What several processes read: the benchmarks, which are downloaded once."""
    from slm.tasks import igakuqa, jmed_llm
    kinds = {own.kind for own in config.sets}
    if "jmed_llm" in kinds:
        jmed_llm.folder(config.jmed_llm)
    if "igakuqa" in kinds:
        igakuqa.folder(config.igakuqa)
    return PRODUCTS


def _evaluate(config, workdir: Path, started: float) -> dict:
    from slm.evaluation import evaluate
    return evaluate.run(config, workdir)


def _compare(config, workdir: Path, started: float) -> dict:
    from slm.evaluation import compare
    return compare.run(config, workdir)


def _harness(config, workdir: Path, started: float) -> dict:
    from slm.evaluation import harness
    return harness.run(config, workdir)


def _figures(config, workdir: Path, started: float) -> dict:
    from slm.report import draw
    return draw.run(config, workdir)


def _export(config, workdir: Path, started: float) -> dict:
    from slm.export import export
    result = export.run(config, workdir)
    print(f"exported to {workdir}; its card is {workdir}/README.md")
    return result


def _import_hugging_face(config, workdir: Path, started: float) -> dict:
    from slm.export import take_in
    return take_in.run(config, workdir)


def _annotate(config, workdir: Path, started: float) -> dict:
    from slm.local import annotate
    return annotate.run(config, workdir, started)


def _serve(config, workdir: Path, started: float) -> dict:
    from slm.local import serve
    return serve.run(config)


def _chat(config, workdir: Path, started: float) -> dict:
    from slm.local import chat
    return chat.run(config)


JOBS = {
    "corpus": Job("sources → clean, private, deduplicated corpus", "slm.corpus.sources:CorpusJobConfig", _corpus),
    "textbooks": Job("lexicons → synthesised textbooks", "slm.corpus.textbooks:TextbooksConfig", _textbooks),
    "quality": Job("labels, or good and dropped text → quality classifier", "slm.quality.training:QualityConfig",
                   _quality),
    "tokenizer": Job("corpus → Unigram over morphemes, with a table that compares it", "slm.corpus.comparison:"
                     "TokenizerJobConfig", _tokenizer),
    "pretrain": Job("corpus → base model", "slm.train.pretrain:PretrainConfig", _pretrain, goes_on=True,
                    prepare=_prepare_pretrain),
    "sft": Job("base model and conversations → fine-tuned models", "slm.train.sft:SftConfig", _sft, goes_on=True,
               prepare=_prepare_sft),
    "evaluate": Job("model and benchmark → board, every answer kept", "slm.evaluation.evaluate:EvaluateConfig",
                    _evaluate, goes_on=True),
    "compare": Job("evaluations → boards side by side, differences tested", "slm.evaluation.compare:CompareConfig",
                   _compare),
    "harness": Job("checkpoint → lm-evaluation-harness, any of its tasks and ours",
                   "slm.evaluation.harness:HarnessConfig", _harness),
    "plan": Job("preset and pod → does it fit, how long, how much; before renting", "slm.train.plan:PlanConfig",
                _plan),
    "figures": Job("workdirs → figures, PNG and SVG", "slm.report.draw:FiguresConfig", _figures),
    "export": Job("checkpoint → Hugging Face or GGUF, proven equal", "slm.export.export:ExportConfig", _export),
    "import_hugging_face": Job("Hugging Face Llama or Arcee → a checkpoint of ours", "slm.export.take_in:ImportConfig",
                               _import_hugging_face),
    "annotate": Job("instruction and records → answers, a line each", "slm.local.annotate:AnnotateConfig", _annotate,
                    goes_on=True),
    "chat": Job("exported or trained model → a talk in the terminal", "slm.local.chat:ChatConfig", _chat),
    "serve": Job("exported model → an OpenAI-compatible endpoint on this machine", "slm.local.serve:ServeConfig",
                 _serve),
    "generate": Job("checkpoint and prompts → text", "slm.generate:GenerateConfig", _generate),
}


def find_config(arguments: list[str]) -> list[str]:
    """A command line, with its config from the folder where the program runs, or else from this package."""
    found = list(arguments)
    for index, argument in enumerate(arguments):
        flag = "--config=" if argument.startswith("--config=") else ""
        path, colon, variant = argument.removeprefix(flag).partition(":")
        if (flag or arguments[index - 1] == "--config") and not Path(path).exists():
            own = Path(__file__).parent / path
            if not own.exists():
                sys.exit(f"error: {path} is missing: known are {', '.join(f'configs/{name}.py' for name in JOBS)}")
            found[index] = f"{flag}{own}{colon}{variant}"
    return found


# Products -----------------------------------------------------------------------------------------------------

@functools.cache  # fingerprints read every byte: once a process is enough
def corpus(config) -> Path:
    """The TFDS dataset of a `CorpusConfig`."""
    from slm.corpus import dataset, sources
    from slm.text.normalize import VERSION
    if config.curated:
        return _curated(config)

    def build(folder: Path):
        dataset.write(sources.documents(config), folder, config.validation_share)
    return _product("corpus", [sources.fingerprint(config), VERSION, dataset.VERSION], build)


def _curated(config) -> Path:
    try:
        from slm.corpus import pipeline
    except ModuleNotFoundError as error:
        raise RuntimeError(f"curating a corpus needs {error.name}: pip install 'slm[corpus]', or set "
                           "--config.corpus.curated=false to only normalise it") from None
    from slm.corpus import dataset, sources
    from slm.report import data_card
    from slm.text import morphology
    scorer, trained = None, None
    if config.classifier:
        from slm.quality import scorer as classifiers
        scorer = classifiers.load(Path(config.classifier))
        about = Path(config.classifier).parent / RESULT_FILE
        trained = json.loads(about.read_text(encoding="utf-8")) if about.exists() else None

    def build(folder: Path):
        report = pipeline.run(config, folder, scorer)
        if trained:
            report["classifier"] = trained
            dataset.write_report(folder, report)
        data_card.write(folder, report, config)
    ingredients = [sources.fingerprint(config), pipeline.fingerprint(), morphology.fingerprint()]
    return _product("corpus", ingredients, build)


@functools.cache
def dictionary(config) -> Path | None:
    """The compiled user dictionary of a `VocabularyConfig`; None where it names no lexicon."""
    from slm.corpus import vocabulary
    from slm.text import morphology
    words = vocabulary.lexicon(config)
    if not words:
        return None
    digest = hashlib.sha256("\n".join(words).encode()).hexdigest()

    def build(folder: Path):
        morphology.compile_dictionary(words, folder / "user.dic")
    return _product("dictionary", [digest, morphology.fingerprint()], build) / "user.dic"


@functools.cache
def segmented(config, corpus_config) -> Path:
    """The corpus, cut with the dictionary of a `VocabularyConfig`."""
    from slm.data import segmented as shards
    from slm.text import morphology
    source, user_dictionary = corpus(corpus_config), dictionary(config)

    def build(folder: Path):
        shards.write(source, user_dictionary, folder)
    return _product("segmented", [source.name, morphology.fingerprint(user_dictionary)], build)


@functools.cache
def tokenizer(config, corpus_config) -> Path:
    """The tokenizer that a `VocabularyConfig` trains on a corpus."""
    from slm.corpus import vocabulary
    from slm.text import tokenizer as tokens
    shards, user_dictionary = segmented(config, corpus_config), dictionary(config)
    settings = dataclasses.asdict(config) | {"lexicons": user_dictionary.parent.name if user_dictionary else None}

    def build(folder: Path):
        morphemes = vocabulary.count(shards)
        words = vocabulary.lexicon_counts(vocabulary.lexicon(config), morphemes.total(), config)
        tokens.save(folder, vocabulary.train(morphemes, config, words), user_dictionary)
    return _product("tokenizer", [shards.name, settings], build)


@functools.cache
def stream(config, corpus_config) -> Path:
    """The token stream of a corpus and the tokenizer of a `VocabularyConfig`."""
    from slm.data import stream as tokens
    shards, tokenizer_folder = segmented(config, corpus_config), tokenizer(config, corpus_config)

    def build(folder: Path):
        tokens.write(shards, tokenizer_folder, folder)
    return _product("stream", [shards.name, tokenizer_folder.name, tokens.VERSION], build)


_LOCKS: set[int] = set()
# A process that is forked meanwhile (datatrove's manager) may outlive a killed run: it must not hold the lock.
os.register_at_fork(after_in_child=lambda: [os.close(_LOCKS.pop()) for _ in range(len(_LOCKS))])


def _product(kind: str, ingredients: list, build: Callable[[Path], Any]) -> Path:
    """The folder of a product, made now if it is missing."""
    fingerprint = hashlib.sha256(json.dumps(ingredients, sort_keys=True).encode()).hexdigest()[:16]
    folder = PRODUCTS / f"{kind}-{fingerprint}"
    if folder.exists():
        return folder
    aside = folder.with_name(f"{folder.name}.making")
    new = not aside.exists()
    aside.mkdir(parents=True, exist_ok=True)
    lock = os.open(aside, os.O_RDONLY)
    _LOCKS.add(lock)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another process may be making the same; a killed one lets go
        if folder.exists():
            return folder
        print(f"making {folder}", file=sys.stderr, flush=True)
        build(aside)
        for left in aside.rglob("*.writing"):  # by a process that was killed
            left.unlink()
        aside.rename(folder)
    except Exception as error:
        # What bad input leaves is of no use: mended, it makes another product. After a kill, a full disk or a failed
        # task the same command goes on, and an error then must not take what was there before.
        if new and not isinstance(error, (OSError, RuntimeError, MemoryError, subprocess.CalledProcessError)):
            shutil.rmtree(aside, ignore_errors=True)
        raise
    finally:
        _LOCKS.discard(lock)
        os.close(lock)
    return folder


# Workdirs -----------------------------------------------------------------------------------------------------

def _refuse_other(workdir: Path, config: Any) -> None:
    """Raises a `ValueError` where the workdir holds results of another config."""
    path = workdir / CONFIG_FILE
    if not path.exists() or list(workdir.iterdir()) == [path]:
        return
    there = json.loads(path.read_text(encoding="utf-8"))["config"]
    for name, (old, new) in configs.differences(there, dataclasses.asdict(config)).items():
        raise ValueError(f"{workdir} holds a run with {name}={old!r}, this one has {new!r}: give another --workdir, or "
                         "the old setting to go on")


def _versions() -> dict[str, str]:
    from importlib import metadata
    names = ("jax", "flax", "optax", "orbax-checkpoint", "grain", "sentencepiece", "mecab-python3", "ipadic", "numpy")
    return {"python": sys.version.split()[0], **{name: metadata.version(name) for name in names}}


def _revision() -> str | None:
    """The git revision of this code, with + where files were changed; None outside a checkout."""
    try:
        done = subprocess.run(["git", "describe", "--always", "--dirty=+", "--exclude=*"], capture_output=True,
                              text=True, cwd=Path(__file__).parent)
    except FileNotFoundError:
        return None
    return done.stdout.strip() or None


def _write_json(path: Path, value: Any) -> None:
    aside = path.with_suffix(".writing")
    aside.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    aside.rename(path)

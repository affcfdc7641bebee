"""Fine-tuning on conversations: a base model in, models that follow instructions out, one for each seed and fold."""

import dataclasses
import hashlib
import json
import math
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import jax

from slm import checkpoint, distributed, process, sharding
from slm.checkpoint import Checkpoints
from slm.data import conversations, loader, sets
from slm.data.conversations import Packed
from slm.data.sets import Benchmarks, Entry, SetConfig
from slm.model import decoder, lora, presets
from slm.model.lora import LoraConfig
from slm.model.presets import ModelConfig
from slm.products.store import PRODUCTS
from slm.sharding import MeshConfig
from slm.tasks import igakuqa, jmed_llm
from slm.tasks.igakuqa import IgakuQAConfig
from slm.tasks.jmed_llm import FOLDS, JmedLlmConfig
from slm.tasks.trained import NOTHING_LEARNED, folder_of
from slm.text.tokenizer import load_tokenizer
from slm.train import loop, optimizer, step, validation
from slm.train.loop import LoopConfig
from slm.train.optimizer import OptimizerConfig
from slm.train.step import StepConfig

RESULT_FILE = "result.json"
FILES_OF_TEXT = ("messages", "alpaca", "choice", "extraction")
Split = dict[str, dict[str, Packed]]  # {train, validation: {set: its rows}}


@dataclasses.dataclass(frozen=True)
class SftConfig:
    """All that a fine-tuning runs with."""
    job: str = "sft"
    variant: str = "sample"
    checkpoint: str = ""  # the workdir of a training; empty: the newest under runs/
    seed: int = 0
    seeds: int = 1  # models to make: of seed, seed + 1, …
    sets: tuple[SetConfig, ...] = (SetConfig("sample", "sample"),)
    protocol: Literal["P1", "P2", "CV"] = "P2"  # which rows of JMED-LLM may be learned from
    jmed_llm: JmedLlmConfig = JmedLlmConfig()
    igakuqa: IgakuQAConfig = IgakuQAConfig()
    validation_share: float = 0.05  # of conversations, whole documents
    seq_len: int = 0  # tokens; 0: the model's context
    batch_size: int = 4
    epochs: float = 3.0  # over the weighted sets; 0: train.steps says when to end
    lora: LoraConfig = LoraConfig()
    mesh: MeshConfig = MeshConfig()
    optimizer: OptimizerConfig = OptimizerConfig(learning_rate=3e-4, weight_decay=0.01, final_share=0.0)
    step: StepConfig = StepConfig()
    train: LoopConfig = LoopConfig()

    def __post_init__(self):
        for name in ("seeds", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: give at least 1")
        names = [own.name for own in self.sets]
        if len(set(names)) < len(names):
            raise ValueError(f"two of the sets have one name ({', '.join(names)}): give each a name of its own")
        if not self.sets:
            raise ValueError("there are no sets to learn from: name one, as configs/sft.py does")
        if not 0 < self.validation_share < 1 or self.epochs < 0 or self.seq_len < 0:
            raise ValueError(f"validation_share={self.validation_share}, epochs={self.epochs}, seq_len="
                             f"{self.seq_len}: give a share between 0 and 1, and at least 0 of the others")


def prepare(config: SftConfig) -> Path:
    """What several processes read: the benchmarks, which are downloaded once."""
    kinds = {own.kind for own in config.sets}
    if "jmed_llm" in kinds:
        jmed_llm.folder(config.jmed_llm)
    if "igakuqa" in kinds:
        igakuqa.folder(config.igakuqa)
    return PRODUCTS


def run(config: SftConfig, workdir: Path) -> dict:
    """Trains every seed (of CV: of every fold), each in its own folder; returns what `result.json` holds.

    A model that is done is kept, so that the same command goes on.
    """
    started = process.STARTED
    source = Path(config.checkpoint) if config.checkpoint else checkpoint.newest(Path("runs"))
    model = checkpoint.read_model(source)
    length = config.seq_len or model.context
    if length > model.context:
        raise ValueError(f"seq_len={length} is longer than the context of {source}, {model.context}: shorten it")
    learned = _learned(config, source)
    runs = []
    for fold in range(FOLDS) if config.protocol == "CV" else [None]:
        packed = pack(config, source, fold, length)
        for seed in range(config.seed, config.seed + config.seeds):
            folder = folder_of(workdir, seed, fold)
            if (folder / RESULT_FILE).exists():
                _refuse_other(folder, source, packed, learned)
                runs.append(json.loads((folder / RESULT_FILE).read_text(encoding="utf-8")))
                continue
            runs.append(_train(config, source, model, packed, length, folder, seed, fold, learned, started))
            started = time.perf_counter()
    losses = [own["validation_loss"] for own in runs]
    if distributed.is_first():
        print(f"validation loss {sum(losses) / len(losses):.4f}; "
              f"try python -m slm.main --config=configs/evaluate.py --config.checkpoint={workdir}")
    return {"checkpoint": str(source), "learned": learned, "validation_loss": sum(losses) / len(losses),
            "train_seconds": sum(own["train_seconds"] for own in runs), "runs": runs}


def _refuse_other(folder: Path, source: Path, rows: Split, learned: dict) -> None:
    """Raises a `ValueError` where a model that is done was made from something else."""
    there = checkpoint.read_about(folder)
    for name, here in (("base", str(source)), ("learned", learned), ("stream", _fingerprint(rows["train"]))):
        if there.get(name) != here:
            raise ValueError(f"{folder} holds a model whose {name} is {there.get(name)}, this run has {here}: give "
                             "another --workdir, or bring back what it was made from")


def _learned(config: SftConfig, source: Path) -> dict:
    """What of the benchmarks the models will have learned from, that of the model they begin with included.

    Raises:
      ValueError: the two do not make one protocol.
    """
    earlier = checkpoint.read_about(source).get("learned", NOTHING_LEARNED)
    names = {kind: sorted({own.name for own in config.sets if own.kind == kind} | {*earlier[kind]})
             for kind in ("jmed_llm", "igakuqa")}
    if not any(own.kind == "jmed_llm" for own in config.sets) and config.protocol != "P1":
        protocol = earlier["protocol"]
    elif earlier["protocol"] in ("P0", config.protocol) or (earlier["protocol"], config.protocol) == ("P2", "P1"):
        protocol = config.protocol
    else:
        raise ValueError(f"{source} learned from JMED-LLM under {earlier['protocol']}, this run has protocol="
                         f"{config.protocol}: begin with a model that did not, or set protocol=P1, if that is true")
    if earlier["protocol"] == "CV":
        raise ValueError(f"{source} is a fold of a cross-validation, which is scored by what it has not seen: begin "
                         "with another model")
    # Text of others may hold the benchmark's documents, which only a copy of the benchmark can tell.
    unchecked = earlier["unchecked"] or (protocol != "P1" and not _scored(config)
                                         and any(own.kind in FILES_OF_TEXT for own in config.sets))
    # What every one of the trainings held out: the hash of a document decides, so the smallest share is in all of them.
    share = min(earlier["held_out"], config.validation_share)
    return {"protocol": protocol, **names, "unchecked": unchecked, "held_out": share}


def _scored(config: SftConfig) -> bool:
    """Whether a copy of JMED-LLM is at hand, to look for its documents."""
    return bool(config.jmed_llm.data_dir) or any(own.kind == "jmed_llm" for own in config.sets)


def pack(config: SftConfig, source: Path, fold: int | None, length: int) -> Split:
    """The sets as packed rows.

    Raises:
      ValueError: a test document among them, or nothing left to train or to validate on.
    """
    tokenizer = load_tokenizer(source / "tokenizer")
    benchmarks = Benchmarks(config.jmed_llm, config.igakuqa, config.protocol, fold)
    packed: Split = {"train": {}, "validation": {}}
    for own in config.sets:
        entries = sets.read(own, benchmarks, config.seed)
        if _scored(config):
            sets.refuse_leaks(entries, benchmarks)
        parts: dict[str, list[Entry]] = {"train": [], "validation": []}
        for entry in entries:
            held_out = conversations.is_held_out(entry.group, config.validation_share)
            parts["validation" if held_out else "train"].append(entry)
        if not parts["train"]:
            raise ValueError(f"all {len(entries)} conversations of sets.{own.name} are held out: give more of them, or "
                             f"less than validation_share={config.validation_share}")
        for split, part in parts.items():
            if part:
                packed[split][own.name] = Packed(((entry.place, entry.messages) for entry in part), tokenizer, length)
    if not packed["validation"]:
        raise ValueError(f"validation_share={config.validation_share} holds out no conversation of so few: raise it")
    return packed


def _train(config: SftConfig, source: Path, model: ModelConfig, rows: Split, length: int, folder: Path, seed: int,
           fold: int | None, learned: dict, started: float) -> dict:
    """Trains one model in `folder`/training, and leaves it, whole and merged, in `folder`/checkpoints."""
    weights = {own.name: own.weight for own in config.sets}
    rows_an_epoch = sum(weights[name] * len(own) for name, own in rows["train"].items())
    steps = max(1, round(config.epochs * rows_an_epoch / config.batch_size)) if config.epochs else config.train.steps
    place = config.train.checkpoints and "/".join((config.train.checkpoints, *folder.parts[-2:]))  # each model's own
    plan = dataclasses.replace(config.train, steps=steps, checkpoints=place)
    shape = sharding.mesh_shape(config.mesh, jax.device_count(), model)
    sharding.check_divisible(config.batch_size, config.step.grad_accum_steps, shape, "batch_size")
    mesh = sharding.make_mesh(shape)
    share, shares = sharding.share_of_process(mesh, config.batch_size)
    if distributed.is_first():
        print(_about_run(config, model, rows, steps, folder), flush=True)
        shutil.copytree(source / "tokenizer", folder / "tokenizer", dirs_exist_ok=True)
    program = step.program(config.step, model, optimizer.build(config.optimizer, steps), mesh, config.lora)
    base = _base(source, model, mesh)
    frozen = [base] if config.lora.rank else []
    about = {"tokenizer": checkpoint.read_about(source)["tokenizer"], "stream": _fingerprint(rows["train"]),
             "base": str(source), "learned": learned, "config": dataclasses.asdict(config) | {
                 "model": dataclasses.asdict(model), "seed": seed, "fold": fold}}

    def initial():
        state = program.initial(jax.random.key(seed))
        return state if frozen else state | {"params": base}

    def evaluate(state, last: bool) -> dict:
        return validation.measure(
            lambda batch: program.evaluate(state["params"], sharding.to_devices(batch, mesh), *frozen),
            rows["validation"], {name: own.bytes / own.learned for name, own in rows["validation"].items()},
            config.batch_size, None, share, shares)

    with jax.set_mesh(mesh):
        outcome = loop.run(
            plan, folder / "training", initial=initial, abstract=program.abstract,
            step=lambda state, batch: program.train(state, sharding.to_devices(batch, mesh), *frozen),
            batches=lambda start: loader.iterate(loader.training(
                rows["train"], config.batch_size, seed, loader.weighted(weights, rows["train"]), share, shares), start),
            learning_rate=optimizer.schedule(config.optimizer, steps, config.optimizer.learning_rate),
            evaluate=evaluate, about=lambda number: {"step": number, "next_row": number * config.batch_size, **about},
            tokens_a_step=config.batch_size * length, flops_a_token=presets.flops_per_token(model, length),
            started=started)
        number, params = _chosen(plan, folder / "training", program.abstract)
        if frozen:
            params = jax.jit(lambda base, own: lora.merge(base, own, config.lora))(base, params)
        made = Checkpoints(folder / "checkpoints", keep=1)
        made.save(number, {"params": params}, {"step": number, **about}, None)
        made.close()
    if not distributed.is_first():  # it has no record of earlier validations
        return {"validation_loss": math.nan, "train_seconds": math.nan}
    result = _result(rows["train"], outcome, number, config.batch_size * length) | {
        "workdir": str(folder), "seed": seed, "fold": fold, "planned_steps": steps}
    aside = (folder / RESULT_FILE).with_suffix(".writing")
    aside.write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    aside.rename(folder / RESULT_FILE)
    return result


def _base(source: Path, model: ModelConfig, mesh) -> decoder.Params:
    shapes = jax.eval_shape(lambda key: decoder.initialize(model, key), jax.random.key(0))
    return checkpoint.read_params(source, None, jax.tree.map(
        lambda x, own: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=own), shapes, step.model_shardings(model, mesh)))


def _chosen(config: LoopConfig, folder: Path, abstract: Any) -> tuple[int, decoder.Params]:
    """The step that is kept and its parameters: the best where training may end early, else the last."""
    saved = Checkpoints(config.checkpoints or folder / "checkpoints", config.keep)
    number = (saved.best() if config.patience else None) or saved.latest()
    params = saved.restore(number, abstract)["params"]
    saved.close()
    return number, params


def _result(rows: Mapping[str, Packed], outcome: loop.Outcome, number: int, tokens_a_step: int) -> dict:
    chosen = next(line for line in outcome.validations if line["step"] == number)
    return {"steps": number, "validation_loss": chosen["loss"],
            "validation_bits_per_byte_by_source": chosen["bits_per_byte_by_source"],
            "first_validation_loss": outcome.validations[0]["loss"],
            "train_seconds": sum(tokens_a_step / line["tokens_per_second"] for line in outcome.metrics),
            "conversations": {name: own.conversations for name, own in rows.items()},
            "cut_conversations": {name: own.cut for name, own in rows.items() if own.cut}}


def _fingerprint(rows: Mapping[str, Packed]) -> str:
    digest = hashlib.sha256()
    for name, own in sorted(rows.items()):
        digest.update(name.encode() + b"\0" + own.digest())
    return digest.hexdigest()[:16]


def _about_run(config: SftConfig, model: ModelConfig, rows: Split, steps: int, folder: Path) -> str:
    lines = [f"{folder}: {presets.parameter_count(model):,} parameters"
             + (f", LoRA of rank {config.lora.rank}" if config.lora.rank else "")
             + f"; {steps} steps of {config.batch_size} rows"]
    for name, own in rows["train"].items():
        held_out = rows["validation"].get(name)
        lines.append(f"  {name}: {own.conversations:,} conversations, {own.tokens:,} tokens ({own.learned:,} learned), "
                     f"{own.cut} cut to fit, {held_out.conversations if held_out else 0} held out")
    return "\n".join(lines)

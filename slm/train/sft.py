"""Fine-tuning on conversations: a base model in, models that follow instructions out, one for each seed and fold."""

import dataclasses
import hashlib
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

from slm import benchmarks, checkpoint, distributed, files, sharding
from slm import workdir as workdirs
from slm.benchmarks import REGISTRY
from slm.checkpoint import Checkpoints
from slm.data import conversations, loader, sets
from slm.data.conversations import Packed
from slm.data.sets import Access, Entry, SetConfig
from slm.model import decoder, lora, presets
from slm.model.lora import LoraConfig
from slm.model.presets import ModelConfig
from slm.products.store import PRODUCTS
from slm.sharding import MeshConfig
from slm.tasks.benchmark import Protocol, Provenance
from slm.tasks.jmed_llm import FOLDS
from slm.text.tokenizer import load_tokenizer
from slm.train import loop, optimizer, step
from slm.train.loop import LoopConfig, Training
from slm.train.optimizer import OptimizerConfig
from slm.train.step import StepConfig

BASE_FILE = "base.json"
TEXT_KINDS = ("messages", "alpaca", "choice", "extraction")  # sets that may hold documents of a benchmark
Split = dict[str, dict[str, Packed]]  # {train, validation: {set: its rows}}


@dataclasses.dataclass(frozen=True)
class SftConfig(benchmarks.Settings):
    """All that a fine-tuning runs with."""
    job: str = "sft"
    variant: str = "sample"
    checkpoint: str = ""  # a training, as every job takes it; empty: the newest base model under runs/
    seed: int = 0
    seeds: int = 1  # models to make: of seed, seed + 1, …
    sets: tuple[SetConfig, ...] = (SetConfig("sample", "sample"),)
    protocol: Protocol = "P2"  # which rows of JMED-LLM may be learned from
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
        if self.protocol == "P0":
            raise ValueError("protocol=P0 is that of a model trained on nothing of the benchmark: choose P1, P2 or CV")
        names = [part.name for part in self.sets]
        if len(set(names)) < len(names):
            raise ValueError(f"two of the sets have the same name ({', '.join(names)}): give each a different one")
        if not self.sets:
            raise ValueError("there are no sets to learn from: name one, as configs/sft.py does")
        if not 0 < self.validation_share < 1 or self.epochs < 0 or self.seq_len < 0:
            raise ValueError(f"validation_share={self.validation_share}, epochs={self.epochs}, seq_len="
                             f"{self.seq_len}: give a share between 0 and 1, and at least 0 of the others")


@dataclasses.dataclass(frozen=True)
class Base:
    """The checkpoint that a fine-tuning begins with, pinned when it first starts."""
    path: Path
    step: int
    hash: str
    model: ModelConfig
    pin_file: Path

    @property
    def record(self) -> dict[str, Any]:
        return {"path": str(self.path), "step": self.step, "hash": self.hash}

    def pin(self) -> None:
        if not self.pin_file.exists():
            files.write_json(self.pin_file, self.record)


def prepare(config: SftConfig) -> Path:
    """What several processes read: the benchmarks, which are downloaded once."""
    for name in {part.kind for part in config.sets} & {*REGISTRY}:
        REGISTRY[name].prepare(benchmarks.settings_of(config, name))
    return PRODUCTS


def run(config: SftConfig, workdir: Path) -> dict:
    """Trains every seed (of CV: of every fold), each in its own folder; returns what `result.json` holds.

    A model that is finished is kept, so that the same command resumes.
    """
    base = _find_base(config, workdir / BASE_FILE)
    seq_len = config.seq_len or base.model.context
    if seq_len > base.model.context:
        raise ValueError(f"seq_len={seq_len} is longer than the context of {base.path}, {base.model.context}: shorten "
                         "it")
    config.step.check_divides(seq_len, "seq_len" if config.seq_len else "the model's context")
    provenance = _provenance(config, base)
    runs = []
    for fold in range(FOLDS) if config.protocol == "CV" else [None]:
        packed = pack(config, base.path, fold, seq_len)
        for seed in range(config.seed, config.seed + config.seeds):
            runs.append(_finished(config, base, packed, workdirs.model_folder(workdir, seed, fold), provenance)
                        or _train(config, base, packed, seq_len, workdirs.model_folder(workdir, seed, fold), seed, fold,
                                  provenance))
    losses = [result["validation_loss"] for result in runs]
    if distributed.is_first():
        print(f"validation loss {sum(losses) / len(losses):.4f}; "
              f"try python -m slm.main --config=configs/evaluate.py --config.checkpoint={workdir}")
    return {"checkpoint": str(base.path), "provenance": provenance.to_json(),
            "validation_loss": sum(losses) / len(losses),
            "train_seconds": sum(result["train_seconds"] for result in runs), "runs": runs}


def _find_base(config: SftConfig, pin_file: Path) -> Base:
    """The base of this run; one that was interrupted keeps the step it began with, whatever was trained since.

    Raises:
      ValueError: the workdir's models begin with another base, or theirs is gone.
    """
    pinned, folder = files.read_json(pin_file) if pin_file.exists() else None, pin_file.parent
    named = config.checkpoint or (pinned["path"] if pinned else str(checkpoint.newest(workdirs.RUNS)))
    source, number = checkpoint.resolve(named)
    if pinned and pinned["path"] != str(source):
        raise ValueError(f"{folder} holds models that begin with {pinned['path']}, this run has checkpoint={source}: "
                         "give another --workdir, or the old checkpoint to resume")
    number = pinned["step"] if pinned else checkpoint.read_about(source, number)["step"]
    base = Base(source, number, checkpoint.content_hash(source, number), checkpoint.read_model(source), pin_file)
    if pinned and pinned["hash"] != base.hash:
        raise ValueError(f"{folder} holds models that begin with step {number} of {source} as {pinned['hash']}, which "
                         f"is now {base.hash}: give another --workdir, or bring back the old checkpoint")
    return base


def _finished(config: SftConfig, base: Base, packed: Split, folder: Path, provenance: Provenance) -> dict | None:
    """The result of a model that is finished; None where there is more to train.

    Raises:
      ValueError: it was made from something else.
    """
    result = workdirs.read_result(folder)
    if result is None:
        return None
    about = checkpoint.read_about(folder)
    for name, current in (("base", base.record), ("provenance", provenance.to_json()),
                          ("stream", _fingerprint(packed["train"]))):
        if about.get(name) != current:
            raise ValueError(f"{folder} holds a model whose {name} is {about.get(name)}, this run has {current}: give "
                             "another --workdir, or bring back what it was made from")
    planned = _steps(config, packed["train"])
    if planned < result["planned_steps"]:
        raise ValueError(f"{folder} has been trained for {result['planned_steps']} steps, more than the {planned} "
                         "asked for: raise train.steps, or choose another --workdir")
    return result if planned == result["planned_steps"] else None


def _provenance(config: SftConfig, base: Base) -> Provenance:
    """What of the benchmarks the models will have seen, including what the base has seen.

    Raises:
      ValueError: the two do not make one protocol.
    """
    earlier = Provenance.of_checkpoint(checkpoint.read_about(base.path, base.step))
    seen = {name: tuple(sorted({part.name for part in config.sets if part.kind == name} | {*earlier.seen_of(name)}))
            for name in REGISTRY if REGISTRY[name].settings_type}
    if not any(part.kind == "jmed_llm" for part in config.sets) and config.protocol != "P1":
        protocol = earlier.protocol
    elif earlier.protocol in ("P0", config.protocol) or (earlier.protocol, config.protocol) == ("P2", "P1"):
        protocol = config.protocol
    else:
        raise ValueError(f"{base.path} was trained on JMED-LLM under {earlier.protocol}, this run has protocol="
                         f"{config.protocol}: begin with a model that was not, or set protocol=P1, if that is true")
    if earlier.protocol == "CV":
        raise ValueError(f"{base.path} is a fold of a cross-validation, which is scored by what it has not seen: begin "
                         "with another model")
    # Your own text may hold the benchmark's documents, which only a copy of the benchmark can show.
    unchecked = earlier.unchecked or (protocol != "P1" and not _has_benchmark(config)
                                      and any(part.kind in TEXT_KINDS for part in config.sets))
    # The hash of a document decides whether it is held out, so the smallest share is in those of all trainings.
    return Provenance(protocol, {name: names for name, names in seen.items() if names}, unchecked,
                      min(earlier.held_out, config.validation_share))


def _has_benchmark(config: SftConfig) -> bool:
    """Whether a copy of JMED-LLM is available, to look for its documents."""
    settings = benchmarks.settings_of(config, "jmed_llm")
    return bool(settings.data_dir) or any(part.kind == "jmed_llm" for part in config.sets)


def pack(config: SftConfig, source: Path, fold: int | None, seq_len: int) -> Split:
    """The sets as packed rows.

    Raises:
      ValueError: a test document among them, or nothing left to train or to validate on.
    """
    tokenizer = load_tokenizer(source / "tokenizer")
    settings = {name: benchmarks.settings_of(config, name) for name in REGISTRY if REGISTRY[name].settings_type}
    access = Access(**settings, protocol=config.protocol, fold=fold)
    packed: Split = {"train": {}, "validation": {}}
    for part in config.sets:
        entries = sets.read(part, access, config.seed)
        if _has_benchmark(config):
            sets.refuse_leaks(entries, access)
        splits: dict[str, list[Entry]] = {"train": [], "validation": []}
        for entry in entries:
            held_out = conversations.is_held_out(entry.group, config.validation_share)
            splits["validation" if held_out else "train"].append(entry)
        if not splits["train"]:
            raise ValueError(f"all {len(entries)} conversations of sets.{part.name} are held out: give more of them, "
                             f"or less than validation_share={config.validation_share}")
        for split, of_split in splits.items():
            if of_split:
                packed[split][part.name] = Packed(
                    ((entry.location, entry.messages) for entry in of_split), tokenizer, seq_len)
    if not packed["validation"]:
        raise ValueError(f"validation_share={config.validation_share} holds out no conversation of so few: raise it")
    return packed


def _steps(config: SftConfig, rows: Mapping[str, Packed]) -> int:
    weights = {part.name: part.weight for part in config.sets}
    rows_per_epoch = sum(weights[name] * len(packed) for name, packed in rows.items())
    return max(1, round(config.epochs * rows_per_epoch / config.batch_size)) if config.epochs else config.train.steps


def _train(config: SftConfig, base: Base, rows: Split, seq_len: int, folder: Path, seed: int, fold: int | None,
           provenance: Provenance) -> dict:
    """Trains one model in `folder`/training, and leaves it, whole and merged, in `folder`/checkpoints."""
    model, steps = base.model, _steps(config, rows["train"])
    location = config.train.checkpoints and "/".join((config.train.checkpoints, *folder.parts[-2:]))  # of each model
    plan = dataclasses.replace(config.train, steps=steps, checkpoints=location)
    shape = sharding.mesh_shape(config.mesh, jax.device_count(), model)
    sharding.check_divisible(config.batch_size, config.step.grad_accum_steps, shape, "batch_size")
    mesh = sharding.make_mesh(shape)
    if distributed.is_first():
        base.pin()
        print(_summary(config, model, rows, steps, folder), flush=True)
        files.copy_folder(base.path / "tokenizer", folder / "tokenizer")
    params = _read_base(base, mesh)
    about = {"tokenizer": checkpoint.read_about(base.path, base.step)["tokenizer"],
             "stream": _fingerprint(rows["train"]), "base": base.record, "provenance": provenance.to_json(),
             "config": dataclasses.asdict(config) | {
                 "model": dataclasses.asdict(model), "seed": seed, "fold": fold}}
    training = Training(
        step.compiled(config.step, model, optimizer.build(config.optimizer, steps), mesh, config.lora), mesh, rows,
        loader.weighted({part.name: part.weight for part in config.sets}, rows["train"]),
        {name: packed.bytes / packed.learned for name, packed in rows["validation"].items()},
        optimizer.schedule(config.optimizer, steps, config.optimizer.learning_rate), about, seed, config.batch_size,
        seq_len, presets.flops_per_token(model, seq_len), params=None if config.lora.rank else params,
        frozen=params if config.lora.rank else None)
    outcome = loop.fit(training, plan, folder / "training")
    with jax.set_mesh(mesh):
        number, params = _chosen(plan, folder / "training", training.compiled.abstract)
        if training.frozen is not None:
            params = jax.jit(lambda frozen, adapters: lora.merge(frozen, adapters, config.lora))(
                training.frozen, params)
        checkpoints = Checkpoints(folder / "checkpoints", keep=1)
        checkpoints.save(number, {"params": params}, {"step": number, **about}, None)
        checkpoints.close()
    if not distributed.is_first():  # it has no record of earlier validations
        return {"validation_loss": math.nan, "train_seconds": math.nan}
    result = _result(rows["train"], outcome, number, training.tokens_per_step) | {
        "workdir": str(folder), "seed": seed, "fold": fold, "planned_steps": steps}
    workdirs.write_result(folder, result)
    return result


def _read_base(base: Base, mesh: jax.sharding.Mesh) -> decoder.Params:
    shapes = jax.eval_shape(lambda key: decoder.initialize(base.model, key), jax.random.key(0))
    return checkpoint.read_params(base.path, base.step, jax.tree.map(
        lambda x, spec: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=spec), shapes,
        step.model_shardings(base.model, mesh)))


def _chosen(config: LoopConfig, folder: Path, abstract: Any) -> tuple[int, decoder.Params]:
    """The step that is kept and its parameters: the best where training may end early, else the last."""
    saved = Checkpoints(config.checkpoints or folder / "checkpoints", config.keep)
    number = (saved.best() if config.patience else None) or saved.latest()
    assert number is not None  # training has saved its last step
    params = saved.restore(number, abstract)["params"]
    saved.close()
    return number, params


def _result(rows: Mapping[str, Packed], outcome: loop.Outcome, number: int, tokens_per_step: int) -> dict:
    chosen = next(line for line in outcome.validations if line["step"] == number)
    return {"steps": number, "validation_loss": chosen["loss"],
            "validation_bits_per_byte_by_source": chosen["bits_per_byte_by_source"],
            "first_validation_loss": outcome.validations[0]["loss"],
            "train_seconds": outcome.speed(tokens_per_step)["train_seconds"],
            "conversations": {name: packed.conversations for name, packed in rows.items()},
            "cut_conversations": {name: packed.cut for name, packed in rows.items() if packed.cut}}


def _fingerprint(rows: Mapping[str, Packed]) -> str:
    digest = hashlib.sha256()
    for name, packed in sorted(rows.items()):
        digest.update(name.encode() + b"\0" + packed.digest())
    return digest.hexdigest()[:16]


def _summary(config: SftConfig, model: ModelConfig, rows: Split, steps: int, folder: Path) -> str:
    lines = [f"{folder}: {presets.parameter_count(model):,} parameters"
             + (f", LoRA of rank {config.lora.rank}" if config.lora.rank else "")
             + f"; {steps} steps of {config.batch_size} rows"]
    for name, packed in rows["train"].items():
        held_out = rows["validation"].get(name)
        lines.append(f"  {name}: {packed.conversations:,} conversations, {packed.tokens:,} tokens ({packed.learned:,} "
                     f"in the loss), {packed.cut} cut to fit, {held_out.conversations if held_out else 0} held out")
    return "\n".join(lines)

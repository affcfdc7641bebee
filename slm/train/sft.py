"""Fine-tuning on conversations: a base model in, models that follow instructions out, one for each seed and fold."""

import dataclasses
import hashlib
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import jax

from slm import benchmarks, checkpoint, distributed, files, sharding
from slm import workdir as workdirs
from slm.benchmarks import REGISTRY
from slm.checkpoint import Checkpoints
from slm.data import conversations, labelled, loader, sets
from slm.data.conversations import Packed
from slm.data.labelled import LabelRows
from slm.data.sets import Access, Entry, SetConfig
from slm.inference.engine import Engine
from slm.inference.labeller import Labeller
from slm.model import decoder, lora, presets
from slm.model.lora import LoraConfig
from slm.model.presets import ModelConfig
from slm.products.store import PRODUCTS
from slm.scoring.models import Checkpoint, LabelModel
from slm.sharding import MeshConfig
from slm.tasks.benchmark import Protocol, Provenance
from slm.tasks.jmed_llm import FOLDS
from slm.text.tokenizer import Tokenizer, load_tokenizer
from slm.train import base as bases
from slm.train import decisions, held_out, loop, optimizer, step
from slm.train.base import Base
from slm.train.held_out import HeldOut
from slm.train.loop import LoopConfig, Training
from slm.train.optimizer import OptimizerConfig
from slm.train.step import StepConfig

BASE_FILE = "base.json"
TEXT_KINDS = ("messages", "alpaca", "choice", "extraction", "annotated")  # sets that may hold documents of a benchmark
_LABELS_SEQ_LEN = 512
_LEAST_SHARE = 0.05  # of the loss, below which a set is hardly learned
Split = dict[str, dict[str, Packed | LabelRows]]  # {train, validation: {set: its rows}}


@dataclasses.dataclass(frozen=True)
class SftConfig(benchmarks.Settings):
    """All that a fine-tuning runs with."""
    job: str = "sft"
    variant: str = "sample"
    checkpoint: str = ""  # a training, as every job takes it; empty: the newest base model under runs/
    # tokens: the model writes its answers. labels: it classifies texts and tags spans, by heads of its own.
    head: Literal["tokens", "labels"] = "tokens"
    fresh: bool = False  # begins with random parameters, of the checkpoint's size and with its tokenizer
    seed: int = 0
    seeds: int = 1  # models to make: of seed, seed + 1, …
    sets: tuple[SetConfig, ...] = (SetConfig("sample", "sample"),)
    protocol: Protocol = "P2"  # which rows of JMED-LLM may be learned from
    weigh: Literal["answers", "tokens"] = "answers"  # in the loss each conversation counts alike, or each of its tokens
    tag_weight: float = 8.0  # of all tags of a text, where a label of a text has 1
    validation_share: float = 0.05  # of conversations, whole documents
    scored_rows: int = 200  # of each set, held out, that validation asks and scores; of extraction by tokens a tenth
    seq_len: int = 0  # tokens; 0: the model's context, of label heads at most 512: attention sees all pairs
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
        if self.head == "labels" and self.lora.rank:
            raise ValueError(f"head=labels and lora.rank={self.lora.rank} conflict: adapters leave no room for label "
                             "heads; set lora.rank=0")
        if not 0 < self.validation_share < 1 or self.epochs < 0 or self.seq_len < 0:
            raise ValueError(f"validation_share={self.validation_share}, epochs={self.epochs}, seq_len="
                             f"{self.seq_len}: give a share between 0 and 1, and at least 0 of the others")


def prepare(config: SftConfig) -> Path:
    """What several processes read: the benchmarks, which are downloaded once."""
    for name in {part.kind for part in config.sets} & {*REGISTRY}:
        REGISTRY[name].prepare(benchmarks.settings_of(config, name))
    return PRODUCTS


def run(config: SftConfig, workdir: Path) -> dict:
    """Trains every seed (of CV: of every fold), each in its own folder; returns what `result.json` holds.

    A model that is finished is kept, so that the same command resumes.
    """
    base = bases.find(config.checkpoint, workdir / BASE_FILE)
    usual = min(base.model.context, _LABELS_SEQ_LEN) if config.head == "labels" else base.model.context
    seq_len = config.seq_len or usual
    if seq_len > base.model.context:
        raise ValueError(f"seq_len={seq_len} is longer than the context of {base.path}, {base.model.context}: shorten "
                         "it")
    config.step.check_divides(seq_len, "seq_len" if config.seq_len else "the model's context")
    provenance = _provenance(config, base)
    runs = []
    for fold in range(FOLDS) if config.protocol == "CV" else [None]:
        data = pack(config, base.path, base.model, fold, seq_len)
        for seed in range(config.seed, config.seed + config.seeds):
            folder = workdirs.model_folder(workdir, seed, fold)
            runs.append(_finished(config, base, data.rows, folder, provenance)
                        or _train(config, base, data, seq_len, folder, seed, fold, provenance))
    losses = [result["validation_loss"] for result in runs]
    if distributed.is_first():
        print(f"validation loss {sum(losses) / len(losses):.4f}; "
              f"try python -m slm.main --config=configs/evaluate.py --config.checkpoint={workdir}")
    return {"checkpoint": str(base.path), "provenance": provenance.to_json(),
            "validation_loss": sum(losses) / len(losses),
            "train_seconds": sum(result["train_seconds"] for result in runs), "runs": runs}


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
    by_protocol = [part for part in config.sets if part.kind in REGISTRY and REGISTRY[part.kind].has_protocols]
    if not by_protocol and config.protocol != "P1":
        protocol = earlier.protocol
    elif earlier.protocol in ("P0", config.protocol) or (earlier.protocol, config.protocol) == ("P2", "P1"):
        protocol = config.protocol
    else:
        raise ValueError(f"{base.path} was trained on a benchmark under {earlier.protocol}, this run has protocol="
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


@dataclasses.dataclass(frozen=True)
class Data:
    """What a fold is trained on: the model, whose label heads the sets decide, packed rows, and what is scored."""
    tokenizer: Tokenizer
    model: ModelConfig
    rows: Split
    scored: dict[str, HeldOut]


def pack(config: SftConfig, source: Path, model: ModelConfig, fold: int | None, seq_len: int) -> Data:
    """The sets of a fold as packed rows, for the tokenizer in `source`.

    Raises:
      ValueError: a test document among them, or nothing left to train or to validate on.
    """
    tokenizer = load_tokenizer(source / "tokenizer")
    settings = {name: benchmarks.settings_of(config, name) for name in REGISTRY if REGISTRY[name].settings_type}
    access = Access(**settings, protocol=config.protocol, fold=fold)
    split = {part.name: _split(config, part, access) for part in config.sets}
    if not any(entries for _, entries in split.values()):
        raise ValueError(f"validation_share={config.validation_share} holds out no conversation of so few: raise it")
    scored: dict[str, HeldOut] = {}
    if config.head == "labels" or config.scored_rows:
        scored = held_out.of([entry for train, _ in split.values() for entry in train],
                             [entry for _, held in split.values() for entry in held],
                             config.scored_rows, config.head == "tokens")
    packed: Split = {"train": {}, "validation": {}}
    if config.head == "labels":
        tasks = sets.tasks_of(entry for parts in split.values() for entries in parts for entry in entries)
        model = dataclasses.replace(model, label_groups=labelled.groups(tasks.values()), context=seq_len)
    for name, parts in split.items():
        for part, entries in zip(packed, parts):
            if not entries:
                continue
            if config.head == "labels":
                texts = [text for task in sets.tasks_of(entries).values()
                         for text in labelled.labelled(task, model.label_groups)]
                packed[part][name] = LabelRows(texts, model.label_groups, tokenizer, seq_len, config.tag_weight)
            else:
                packed[part][name] = Packed(((entry.location, entry.messages) for entry in entries), tokenizer, seq_len,
                                            alike=part == "train" and config.weigh == "answers")
    return Data(tokenizer, model, packed, scored)


def _split(config: SftConfig, part: SetConfig, access: Access) -> tuple[list[Entry], list[Entry]]:
    """(the conversations of a set to learn from, those held out)."""
    entries = sets.read(part, access, config.seed)
    if config.head == "labels" and not entries[0].item:
        raise ValueError(f"sets.{part.name} is of kind {part.kind}, which has conversations and no labels: set "
                         "head=tokens, or give a table of questions and answers")
    if config.head == "tokens" and entries[0].task and entries[0].task.kind == "tagging":
        raise ValueError(f"sets.{part.name} is of kind {part.kind}, whose answers are positions with labels: set "
                         "head=labels")
    if _has_benchmark(config):
        sets.refuse_leaks(entries, access)
    train: list[Entry] = []
    held: list[Entry] = []
    for entry in entries:
        (held if conversations.is_held_out(entry.group, config.validation_share) else train).append(entry)
    if not train:
        raise ValueError(f"all {len(entries)} conversations of sets.{part.name} are held out: give more of them, "
                         f"or less than validation_share={config.validation_share}")
    return train, held


def _steps(config: SftConfig, rows: Mapping[str, Packed | LabelRows]) -> int:
    weights = {part.name: part.weight for part in config.sets}
    rows_per_epoch = sum(weights[name] * len(packed) for name, packed in rows.items())
    return max(1, round(config.epochs * rows_per_epoch / config.batch_size)) if config.epochs else config.train.steps


def _mixture(config: SftConfig, rows: Split) -> dict[str, float] | None:
    return loader.weighted({part.name: part.weight for part in config.sets}, rows["train"])


def _train(config: SftConfig, base: Base, data: Data, seq_len: int, folder: Path, seed: int, fold: int | None,
           provenance: Provenance) -> dict:
    """Trains one model in `folder`/training, and leaves it, whole and merged, in `folder`/checkpoints."""
    model, rows = data.model, data.rows
    steps = _steps(config, rows["train"])
    location = config.train.checkpoints and "/".join((config.train.checkpoints, *folder.parts[-2:]))  # of each model
    plan = dataclasses.replace(config.train, steps=steps, checkpoints=location)
    shape = sharding.mesh_shape(config.mesh, jax.device_count(), model)
    sharding.check_divisible(config.batch_size, config.step.grad_accum_steps, shape, "batch_size")
    mesh = sharding.make_mesh(shape)
    if distributed.is_first():
        base.pin()
        print(_summary(config, model, rows, steps, folder), flush=True)
        files.copy_folder(base.path / "tokenizer", folder / "tokenizer")
    params = None if config.fresh else bases.read_params(base, model, mesh, seed)
    about = {"tokenizer": checkpoint.read_about(base.path, base.step)["tokenizer"],
             "stream": _fingerprint(rows["train"]), "base": base.record, "provenance": provenance.to_json(),
             "config": dataclasses.asdict(config) | {
                 "model": dataclasses.asdict(model), "seed": seed, "fold": fold}}
    training = Training(
        step.compiled(config.step, model, optimizer.build(config.optimizer, steps), mesh, config.lora), mesh, rows,
        _mixture(config, rows),
        {name: packed.bytes / packed.weight for name, packed in rows["validation"].items()},
        optimizer.schedule(config.optimizer, steps, config.optimizer.learning_rate), about, seed, config.batch_size,
        seq_len, presets.flops_per_token(model, seq_len), params=None if config.lora.rank else params,
        frozen=params if config.lora.rank else None,
        score=_scorer(config, data, params))
    outcome = loop.fit(training, plan, folder / "training")
    with jax.set_mesh(mesh):
        number, params = _chosen(plan, folder / "training", training.compiled.abstract)
        if training.frozen is not None:
            params = jax.jit(lambda frozen, adapters: lora.merge(frozen, adapters, config.lora))(
                training.frozen, params)
        calibration: dict = {}
        if config.head == "labels" and distributed.processes() == 1:
            labeller = Labeller(decoder.unrolled(params), model, data.tokenizer)
            chosen, calibration = decisions.choose(labeller, data.scored)
            about["decisions"] = {name: dataclasses.asdict(decision) for name, decision in chosen.items()}
        checkpoints = Checkpoints(folder / "checkpoints", keep=1)
        checkpoints.save(number, {"params": params}, {"step": number, **about}, None)
        checkpoints.close()
    if not distributed.is_first():  # it has no record of earlier validations
        return {"validation_loss": math.nan, "train_seconds": math.nan}
    result = _result(rows["train"], outcome, number, training.tokens_per_step) | {
        "workdir": str(folder), "seed": seed, "fold": fold, "planned_steps": steps}
    if calibration:
        result["calibration"] = calibration
    workdirs.write_result(folder, result)
    return result


def _scorer(config: SftConfig, data: Data, frozen: decoder.Params | None
            ) -> Callable[[decoder.Params], held_out.Scores] | None:
    """(parameters that are trained) → scores of held-out items; None: there are none, or several processes train."""
    if not data.scored or not config.scored_rows or distributed.processes() > 1:
        return None
    model = dataclasses.replace(data.model, scan_layers=False, remat="none")
    merge = jax.jit(lambda frozen, adapters: lora.merge(frozen, adapters, config.lora))  # compiled once

    def score(params: decoder.Params) -> held_out.Scores:
        if config.lora.rank:
            params = merge(frozen, params)
        params = decoder.unrolled(params)
        if config.head == "labels":
            return held_out.ask(LabelModel(Labeller(params, model, data.tokenizer), "labels"), data.scored)
        return held_out.ask(Checkpoint(Engine(params, model), data.tokenizer, "tokens"), data.scored)
    return score


def _chosen(config: LoopConfig, folder: Path, abstract: Any) -> tuple[int, decoder.Params]:
    """The step that is kept and its parameters: the best where training may end early, else the last."""
    saved = Checkpoints(config.checkpoints or folder / "checkpoints", config.keep)
    number = (saved.best() if config.patience else None) or saved.latest()
    assert number is not None  # training has saved its last step
    params = saved.restore(number, abstract)["params"]
    saved.close()
    return number, params


def _result(rows: Mapping[str, Packed | LabelRows], outcome: loop.Outcome, number: int, tokens_per_step: int) -> dict:
    chosen = next(line for line in outcome.validations if line["step"] == number)
    return {"steps": number, "validation_loss": chosen["loss"],
            "validation_bits_per_byte_by_source": chosen["bits_per_byte_by_source"],
            "first_validation_loss": outcome.validations[0]["loss"],
            "train_seconds": outcome.speed(tokens_per_step)["train_seconds"],
            **({"scores": chosen["scores"]} if "scores" in chosen else {}),
            "conversations": {name: packed.conversations for name, packed in rows.items()},
            "cut_conversations": {name: packed.cut for name, packed in rows.items() if packed.cut}}


def _fingerprint(rows: Mapping[str, Packed | LabelRows]) -> str:
    digest = hashlib.sha256()
    for name, packed in sorted(rows.items()):
        digest.update(name.encode() + b"\0" + packed.digest())
    return digest.hexdigest()[:16]


def _summary(config: SftConfig, model: ModelConfig, rows: Split, steps: int, folder: Path) -> str:
    lines = [f"{folder}: {presets.parameter_count(model):,} parameters"
             + (f", LoRA of rank {config.lora.rank}" if config.lora.rank else "")
             + f"; {steps} steps of {config.batch_size} rows"]
    epochs = loader.epochs(rows["train"], steps * config.batch_size, _mixture(config, rows))
    read = {name: {"rows": epochs[name] * len(packed), "loss": epochs[name] * packed.weight}
            for name, packed in rows["train"].items()}
    totals = {part: sum(of_set[part] for of_set in read.values()) for part in ("rows", "loss")}
    for name, packed in rows["train"].items():
        held = rows["validation"].get(name)
        shares = {part: read[name][part] / totals[part] for part in totals}
        lines.append(f"  {name}: {packed.conversations:,} conversations, {packed.tokens:,} tokens ({packed.learned:,} "
                     f"in the loss), {packed.cut} cut to fit, {held.conversations if held else 0} held out; "
                     f"{epochs[name]:.1f} epochs, {shares['rows']:.1%} of the rows, {shares['loss']:.1%} of the loss")
        if shares["loss"] < _LEAST_SHARE:
            lines.append(f"  warning: sets.{name} has under {_LEAST_SHARE:.0%} of the loss, so it is hardly learned: "
                         f"raise --config.sets.{name}.weight")
    return "\n".join(lines)

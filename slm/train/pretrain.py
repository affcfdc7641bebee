"""Pretraining: a token stream in, a base model out."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import jax
from jax.sharding import Mesh

from slm import distributed, files, sharding
from slm.corpus.sources import CorpusConfig
from slm.data import loader, stream
from slm.model import presets
from slm.model.presets import ModelConfig
from slm.products import build
from slm.sharding import MeshConfig
from slm.tokenization.vocabulary import VocabularyConfig
from slm.train import loop, optimizer, step
from slm.train.loop import LoopConfig, Training
from slm.train.optimizer import OptimizerConfig
from slm.train.step import StepConfig


@dataclasses.dataclass(frozen=True)
class RowsConfig:
    """How the stream is read."""
    batch_size: int = 8  # of a step, over all devices
    seq_len: int = 512  # tokens
    mixture: str = ""  # SOURCE=WEIGHT[,SOURCE=WEIGHT…]; empty: by the corpus' weights
    copies: float = 0.0  # share of the rows whose second half repeats the first, from which a model learns to copy
    validation_rows: int = 0  # of each source, at the validations on the way; 0: all. The last one reads all.

    def __post_init__(self):
        for name in ("batch_size", "seq_len"):
            if getattr(self, name) < 1:
                raise ValueError(f"rows.{name}={getattr(self, name)}: give at least 1")
        if not 0 <= self.copies < 1:
            raise ValueError(f"rows.copies={self.copies}: give a share from 0 to below 1")


@dataclasses.dataclass(frozen=True)
class PretrainConfig:
    """All that a pretraining runs with."""
    job: str = "pretrain"
    variant: str = "laptop"
    seed: int = 0
    corpus: CorpusConfig = CorpusConfig()
    tokenizer: VocabularyConfig = VocabularyConfig()
    stream: str = ""  # a token stream that --prepare made; empty: made here, which only one process can
    model: ModelConfig = ModelConfig()
    mesh: MeshConfig = MeshConfig()
    rows: RowsConfig = RowsConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    step: StepConfig = StepConfig()
    train: LoopConfig = LoopConfig()

    def __post_init__(self):
        rows, model = self.rows, self.model
        if self.tokenizer.size != model.vocabulary_size:
            raise ValueError(f"tokenizer.size={self.tokenizer.size} and model.vocabulary_size={model.vocabulary_size} "
                             "conflict: set both to the same number")
        if rows.seq_len > model.context:
            raise ValueError(f"rows.seq_len={rows.seq_len} is longer than model.context={model.context}: shorten "
                             "the rows or raise the context")
        if rows.batch_size % self.step.grad_accum_steps:
            raise ValueError(f"rows.batch_size={rows.batch_size} is no multiple of step.grad_accum_steps="
                             f"{self.step.grad_accum_steps}: each part takes the same number of rows")
        self.step.check_divides(rows.seq_len, "rows.seq_len")


def prepare(config: PretrainConfig) -> Path:
    """The token stream of a config, built now if it is missing."""
    return build.stream(config.tokenizer, config.corpus)


def run(config: PretrainConfig, workdir: Path) -> dict:
    """Trains, or resumes training; returns what `result.json` holds."""
    built = {}
    if config.stream:
        stream_folder = Path(config.stream)
    elif distributed.processes() > 1:
        raise ValueError(f"{distributed.processes()} processes do not build a token stream together: build it on one "
                         f"machine with python -m slm.main --config=configs/{config.job}.py:{config.variant} --prepare "
                         "and the same settings, copy the folder it prints to every host, and give it as "
                         "--config.stream=FOLDER")
    else:
        stream_folder = prepare(config)
        built = {"corpus": str(build.corpus(config.corpus)),
                 "tokenizer": str(build.tokenizer(config.tokenizer, config.corpus))}
    # Beside the checkpoints, so that the workdir is complete by itself.
    if distributed.is_first() and stream_folder.exists() and not (workdir / "tokenizer").exists():
        aside = workdir / "tokenizer.writing"
        files.copy_folder(stream_folder / "tokenizer", aside)
        aside.rename(workdir / "tokenizer")
    result = train(config, workdir, stream_folder) | built | {
        "stream": str(stream_folder), "checkpoints": config.train.checkpoints or str(workdir / "checkpoints")}
    if distributed.is_first():
        print(f"validation bits per byte {result['validation_bits_per_byte']:.4f} after {result['steps']} steps; "
              f"try python -m slm.main --config=configs/generate.py --config.checkpoint={workdir}")
    return result


def train(config: PretrainConfig, workdir: Path, stream_folder: Path) -> dict:
    """Trains on the stream of a folder; returns the figures of `result.json`."""
    manifest = stream.read_manifest(stream_folder)
    if manifest["vocabulary_size"] > config.model.vocabulary_size:
        raise ValueError(f"{stream_folder} has tokens of a vocabulary of {manifest['vocabulary_size']}, the model has "
                         f"model.vocabulary_size={config.model.vocabulary_size}: set it to the stream's")
    sets = {split: stream.streams(stream_folder, split) for split in ("train", "validation")}
    rows = {split: {source: loader.Rows(tokens, config.rows.seq_len, manifest["end_of_document"])
                    for source, tokens in sets[split].items()} for split in sets}
    mixture = _mixture(config.rows.mixture) or loader.weighted(config.corpus.weights, rows["train"])
    train_rows, mixture = loader.with_copies(rows["train"], mixture, config.rows.copies)
    mesh = choose_mesh(config, jax.device_count())
    total_rows = config.train.steps * config.rows.batch_size
    if distributed.is_first():
        print(_summary(config, mesh, loader.epochs(train_rows, total_rows, mixture), sets["train"]), flush=True)

    training = Training(
        step.compiled(config.step, config.model, optimizer.build(config.optimizer, config.train.steps), mesh), mesh,
        {**rows, "train": train_rows}, mixture,
        {source: tokens.bytes / len(tokens) for source, tokens in sets["validation"].items()},
        optimizer.schedule(config.optimizer, config.train.steps, config.optimizer.learning_rate),
        about={"stream": stream.fingerprint(stream_folder), "tokenizer": manifest["tokenizer"],
               "config": dataclasses.asdict(config)},
        seed=config.seed, batch_size=config.rows.batch_size, seq_len=config.rows.seq_len,
        flops_per_token=presets.flops_per_token(config.model, config.rows.seq_len),
        validation_rows=config.rows.validation_rows)
    return _result(config, training, loop.fit(training, config.train, workdir))


def choose_mesh(config: PretrainConfig, devices: int, of: Sequence | None = None) -> Mesh:
    """The mesh of a run on `devices` devices (`of`: these), where its batches can be shared by them."""
    shape = sharding.mesh_shape(config.mesh, devices, config.model)
    sharding.check_divisible(config.rows.batch_size, config.step.grad_accum_steps, shape)
    return sharding.make_mesh(shape, of)


def _result(config: PretrainConfig, training: Training, outcome: loop.Outcome) -> dict:
    recent = [line["loss"] for line in outcome.metrics[-100:]]
    first, last = outcome.validations[0], outcome.validations[-1]
    return {
        "steps": outcome.steps, "tokens": outcome.steps * training.tokens_per_step,
        "parameters": presets.parameter_count(config.model), **outcome.speed(training.tokens_per_step),
        "train_loss": sum(recent) / len(recent) if recent else None,
        "validation_loss": last["loss"], "validation_bits_per_byte": last["bits_per_byte"],
        "validation_bits_per_byte_by_source": last["bits_per_byte_by_source"],
        "first_validation_bits_per_byte": first["bits_per_byte"],
        "seconds_to_first_step": outcome.seconds_to_first_step,
        "skipped_steps": outcome.metrics[-1]["skipped_steps"] if outcome.metrics else None}


def _mixture(text: str) -> dict[str, float] | None:
    if not text:
        return None
    try:
        return {name: float(weight) for name, weight in (part.rsplit("=", 1) for part in text.split(","))}
    except ValueError:
        raise ValueError(f"rows.mixture={text!r}: expected SOURCE=WEIGHT[,SOURCE=WEIGHT…]") from None


def _summary(config: PretrainConfig, mesh: Mesh, epochs: dict[str, float], sets: dict) -> str:
    model, rows = config.model, config.rows
    lines = [f"{model.preset}: {presets.parameter_count(model):,} parameters, "
             f"{presets.flops_per_token(model, rows.seq_len):.3g} FLOPs a token; {config.train.steps} steps of "
             f"{rows.batch_size} × {rows.seq_len} tokens on {jax.device_count()} {jax.devices()[0].device_kind}"
             + (f" ({' × '.join(f'{axis} {size}' for axis, size in mesh.shape.items())})" if mesh.size > 1 else "")]
    lines += [f"  {source}: {len(sets[source.removesuffix(loader.COPIED)]):,} tokens, {epoch:.2f} epochs"
              for source, epoch in epochs.items()]
    return "\n".join(lines)

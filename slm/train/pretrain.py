"""Pretraining: a token stream in, a base model out."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import jax
from jax.sharding import Mesh

from slm import distributed, sharding
from slm.corpus.sources import CorpusConfig
from slm.corpus.vocabulary import VocabularyConfig
from slm.data import loader, stream
from slm.model import presets
from slm.model.presets import ModelConfig
from slm.sharding import MeshConfig
from slm.train import loop, optimizer, step, validation
from slm.train.loop import LoopConfig
from slm.train.optimizer import OptimizerConfig
from slm.train.step import StepConfig


@dataclasses.dataclass(frozen=True)
class RowsConfig:
    """How the stream is read."""
    batch_rows: int = 8  # of a step, over all devices
    row_length: int = 512  # tokens
    mixture: str = ""  # SOURCE=WEIGHT[,SOURCE=WEIGHT…]; empty: by the corpus' weights
    validation_rows: int = 0  # of each source, at the validations on the way; 0: all. The last one reads all.

    def __post_init__(self):
        for name in ("batch_rows", "row_length"):
            if getattr(self, name) < 1:
                raise ValueError(f"rows.{name}={getattr(self, name)}: give at least 1")


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
                             "fight: set both to the same number")
        if rows.row_length > model.context:
            raise ValueError(f"rows.row_length={rows.row_length} is longer than model.context={model.context}: shorten "
                             "the rows or raise the context")
        if rows.batch_rows % self.step.accumulation:
            raise ValueError(f"rows.batch_rows={rows.batch_rows} is no multiple of step.accumulation="
                             f"{self.step.accumulation}: each part takes the same number of rows")
        if rows.row_length % min(self.step.loss_chunk, rows.row_length):
            raise ValueError(f"step.loss_chunk={self.step.loss_chunk} does not divide rows.row_length="
                             f"{rows.row_length}: choose a divisor")


def run(config: PretrainConfig, workdir: Path, stream_folder: Path, started: float) -> dict:
    """Trains, or goes on training; returns what `result.json` holds."""
    manifest = stream.read_manifest(stream_folder)
    if manifest["vocabulary_size"] > config.model.vocabulary_size:
        raise ValueError(f"{stream_folder} has tokens of a vocabulary of {manifest['vocabulary_size']}, the model has "
                         f"model.vocabulary_size={config.model.vocabulary_size}: set it to the stream's")
    sets = {split: stream.streams(stream_folder, split) for split in ("train", "validation")}
    rows = {split: {source: loader.Rows(tokens, config.rows.row_length, manifest["end_of_document"])
                    for source, tokens in sets[split].items()} for split in sets}
    mixture = _mixture(config.rows.mixture) or loader.weighted(config.corpus.weights, rows["train"])
    mesh = choose_mesh(config, jax.device_count())
    share, shares = sharding.share_of_process(mesh, config.rows.batch_rows)
    total_rows = config.train.steps * config.rows.batch_rows
    if distributed.is_first():
        print(_about_run(config, mesh, loader.epochs(rows["train"], total_rows, mixture), sets["train"]), flush=True)

    transformation = optimizer.build(config.optimizer, config.train.steps)
    program = step.program(config.step, config.model, transformation, mesh)

    def evaluate(state, limit: int | None) -> dict:
        return validation.measure(
            lambda batch: program.evaluate(state["params"], sharding.to_devices(batch, mesh)), rows["validation"],
            {source: tokens.bytes / len(tokens) for source, tokens in sets["validation"].items()},
            config.rows.batch_rows, limit, share, shares)

    with jax.set_mesh(mesh):
        outcome = loop.run(
            config.train, workdir, initial=lambda: program.initial(jax.random.key(config.seed)),
            abstract=program.abstract,
            step=lambda state, batch: program.train(state, sharding.to_devices(batch, mesh)),
            batches=lambda start: loader.iterate(
                loader.training(rows["train"], config.rows.batch_rows, config.seed, mixture, share, shares), start),
            learning_rate=optimizer.schedule(config.optimizer, config.train.steps, config.optimizer.learning_rate),
            evaluate=lambda state, last: evaluate(state, None if last else config.rows.validation_rows or None),
            about=lambda number: {"step": number, "next_row": number * config.rows.batch_rows,
                                  "stream": stream.fingerprint(stream_folder), "tokenizer": manifest["tokenizer"],
                                  "config": dataclasses.asdict(config)},
            tokens_a_step=config.rows.batch_rows * config.rows.row_length,
            flops_a_token=presets.flops_per_token(config.model, config.rows.row_length), started=started)
    return _result(config, outcome)


def choose_mesh(config: PretrainConfig, devices: int, of: Sequence | None = None) -> Mesh:
    """The mesh of a run on `devices` devices (`of`: these), where its batches can be shared by them."""
    shape = sharding.mesh_shape(config.mesh, devices, config.model)
    sharding.refuse_ragged(config.rows.batch_rows, config.step.accumulation, shape)
    return sharding.make_mesh(shape, of)


def _result(config: PretrainConfig, outcome: loop.Outcome) -> dict:
    tokens_a_step = config.rows.batch_rows * config.rows.row_length
    # Of a run that moved to another machine, the metrics of its earlier steps may be missing.
    seconds = sum(tokens_a_step / line["tokens_per_second"] for line in outcome.metrics)
    recent = [line["loss"] for line in outcome.metrics[-100:]]
    first, last = outcome.validations[0], outcome.validations[-1]
    return {
        "steps": config.train.steps, "tokens": config.train.steps * tokens_a_step,
        "parameters": presets.parameter_count(config.model),
        "tokens_per_second": len(outcome.metrics) * tokens_a_step / seconds if seconds else None,
        "train_seconds": seconds, "train_loss": sum(recent) / len(recent) if recent else None,
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


def _about_run(config: PretrainConfig, mesh: Mesh, epochs: dict[str, float], sets: dict) -> str:
    model, rows = config.model, config.rows
    lines = [f"{model.preset}: {presets.parameter_count(model):,} parameters, "
             f"{presets.flops_per_token(model, rows.row_length):.3g} FLOPs a token; {config.train.steps} steps of "
             f"{rows.batch_rows} × {rows.row_length} tokens on {jax.device_count()} {jax.devices()[0].device_kind}"
             + (f" ({' × '.join(f'{axis} {size}' for axis, size in mesh.shape.items())})" if mesh.size > 1 else "")]
    lines += [f"  {source}: {len(sets[source]):,} tokens, {epoch:.2f} epochs" for source, epoch in epochs.items()]
    return "\n".join(lines)

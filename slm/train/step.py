"""Pure steps: (state, batch) → (state, metrics)."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, TypedDict

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from slm import sharding
from slm.model import decoder, lora
from slm.model.lora import LoraConfig
from slm.model.presets import ModelConfig
from slm.train import objective

# The compiler would split matrix products that wait for a gather into loops of small ones, and keep all their pieces.
_TPU_OPTIONS = {"xla_jf_spmd_threshold_for_windowed_einsum_mib": "1000000"}
_EMA_DECAY = 0.98  # of the gradient norm's average, which a spike is measured against


class TrainState(TypedDict):
    """What a step changes; of LoRA, `params` are the adapters."""
    params: decoder.Params
    optimizer: Any
    step: jax.Array
    grad_norm_ema: jax.Array
    skipped: jax.Array  # steps so far


@dataclasses.dataclass(frozen=True)
class StepConfig:
    """How one optimizer step is computed."""
    z_loss: float = 1e-4
    loss_chunk: int = 64  # positions of a row whose logits exist at the same time
    # Share of input tokens replaced by any others, so that a few texts are not learned by heart (Devlin et al. 2019).
    noise: float = 0.0
    grad_accum_steps: int = 1  # parts of a batch whose gradients are summed
    # A step is skipped when its gradient norm is this many times the running one, or not finite. 0: never for size.
    spike_factor: float = 20.0
    spike_after: int = 50  # steps before the running norm is trusted

    def __post_init__(self):
        for name in ("grad_accum_steps", "loss_chunk"):
            if getattr(self, name) < 1:
                raise ValueError(f"step.{name}={getattr(self, name)}: give at least 1")
        if not 0 <= self.noise < 1:
            raise ValueError(f"step.noise={self.noise}: give a share from 0 to below 1")

    def check_divides(self, seq_len: int, setting: str) -> None:
        """Raises a `ValueError` unless rows can be cut into chunks of the loss."""
        if seq_len % min(self.loss_chunk, seq_len):
            raise ValueError(f"step.loss_chunk={self.loss_chunk} does not divide {setting}={seq_len}: choose a divisor")


@dataclasses.dataclass(frozen=True)
class CompiledStep:
    """What a training runs, compiled for a mesh; call its functions where the mesh is set (`jax.set_mesh`)."""
    abstract: TrainState  # the shapes of the state, with their shardings
    initial: Callable[[jax.Array], TrainState]  # key → state
    # (state, batch, frozen parameters of LoRA) → (state, metrics); the old state's memory becomes the new one's.
    train: Any
    evaluate: Callable[..., tuple[jax.Array, jax.Array]]  # (parameters, batch, frozen) → (Σ nll, Σ loss mask)


def compiled(config: StepConfig, model: ModelConfig, optimizer: optax.GradientTransformation, mesh: Mesh,
             adapt: LoraConfig = lora.NONE) -> CompiledStep:
    """The training of a model; with LoRA the state's parameters are the adapters, and the model's own are frozen."""
    make = functools.partial(initial_state, model, optimizer, adapt=adapt)
    shapes = jax.eval_shape(make, jax.random.key(0))
    state = sharding.shardings(shapes, mesh)
    batch, everywhere = sharding.batch_sharding(mesh), sharding.replicated(mesh)
    frozen = [model_shardings(model, mesh)] if adapt.rank else []
    options = _TPU_OPTIONS if mesh.devices.flat[0].platform == "tpu" else None
    return CompiledStep(
        abstract=jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), shapes, state),
        initial=jax.jit(make, out_shardings=state),
        train=jax.jit(functools.partial(train, config=config, model=model, optimizer=optimizer, adapt=adapt),
                      donate_argnums=0, in_shardings=(state, batch, *frozen), out_shardings=(state, everywhere),
                      compiler_options=options),
        evaluate=jax.jit(functools.partial(evaluate, config=config, model=model, adapt=adapt),
                         in_shardings=(state["params"], batch, *frozen), out_shardings=everywhere,
                         compiler_options=options))


def model_shardings(model: ModelConfig, mesh: Mesh) -> Any:
    """The shardings of the model's own parameters."""
    return sharding.shardings(jax.eval_shape(functools.partial(decoder.initialize, model), jax.random.key(0)), mesh)


def initial_state(config: ModelConfig, optimizer: optax.GradientTransformation, key: jax.Array,
                  adapt: LoraConfig = lora.NONE) -> TrainState:
    params = decoder.initialize(config, key)
    if adapt.rank:
        params = lora.initialize(params, adapt, key)
    return {"params": params, "optimizer": optimizer.init(params), "step": jnp.int32(0),
            "grad_norm_ema": jnp.float32(0), "skipped": jnp.int32(0)}


def train(state: TrainState, batch: dict, frozen: decoder.Params | None = None, *, config: StepConfig,
          model: ModelConfig, optimizer: optax.GradientTransformation,
          adapt: LoraConfig = lora.NONE) -> tuple[TrainState, dict[str, jax.Array]]:
    """One optimizer step on `batch` (arrays [B, T]).

    Metrics: loss (nats a target, without z-loss), grad_norm, skipped (so far). A step that is not finite, or whose
    gradient norm spikes, leaves parameters and optimizer as they were.
    """
    if config.noise:
        batch = batch | {"inputs": _noisy(batch["inputs"], batch["positions"], model, config.noise, state["step"])}
    params, pull_back = state["params"], None
    if frozen is not None:
        params, pull_back = jax.vjp(lambda adapters: lora.merge(frozen, adapters, adapt), params)
    gradients, nll, weight = _gradients(params, batch, config, model)
    if pull_back:
        (gradients,) = pull_back(gradients)
    loss = nll / jnp.maximum(weight, 1)
    norm, ema = optax.global_norm(gradients), state["grad_norm_ema"]
    updates, optimizer_state = optimizer.update(gradients, state["optimizer"], state["params"])
    finite = jnp.isfinite(norm) & jnp.isfinite(loss)
    good, capped = finite, norm
    if config.spike_factor:
        good &= ~((norm > config.spike_factor * ema) & (state["step"] >= config.spike_after))
        # A spike raises the average by up to its factor: a lasting rise is learned, not skipped for ever.
        capped = jnp.minimum(norm, config.spike_factor * ema)
    new_ema = jnp.where(ema == 0, norm, _EMA_DECAY * ema + (1 - _EMA_DECAY) * capped)

    def keep(new: Any, old: Any) -> Any:
        return jax.tree.map(lambda n, o: jnp.where(good, n, o), new, old)

    new: TrainState = {
        "params": keep(optax.apply_updates(state["params"], updates), state["params"]),
        "optimizer": keep(optimizer_state, state["optimizer"]), "step": state["step"] + 1,
        "grad_norm_ema": jnp.where(finite, new_ema, ema), "skipped": state["skipped"] + ~good}
    return new, {"loss": loss, "grad_norm": norm, "skipped": new["skipped"]}


def _noisy(inputs_BT: jax.Array, positions_BT: jax.Array, model: ModelConfig, share: float,
           number: jax.Array) -> jax.Array:
    """Inputs with a share of other tokens, but for the first of a segment; the same in every run of step `number`."""
    which, what = jax.random.split(jax.random.fold_in(jax.random.key(0), number))
    others_BT = jax.random.randint(what, inputs_BT.shape, 0, model.vocabulary_size, inputs_BT.dtype)
    return jnp.where(jax.random.bernoulli(which, share, inputs_BT.shape) & (positions_BT > 0), others_BT, inputs_BT)


def _gradients(params: decoder.Params, batch: dict, config: StepConfig,
               model: ModelConfig) -> tuple[Any, jax.Array, jax.Array]:
    """Gradient of the mean objective over the whole batch, Σ nll and Σ loss mask.

    Sums and counts are carried through the parts: a mean of their means would weigh ragged parts wrongly.
    """
    def part(params: decoder.Params, batch: dict) -> tuple:
        return objective.sums(params, model, batch, config.z_loss, config.loss_chunk)

    differentiate = jax.value_and_grad(part, has_aux=True)
    if config.grad_accum_steps == 1:
        (_, (nll, weight)), gradients = differentiate(params, batch)
    else:
        # Each device's rows are dealt out to the parts, so that no row changes its device.
        parts = jax.tree.map(lambda x: x.reshape(-1, config.grad_accum_steps, *x.shape[1:]).swapaxes(0, 1), batch)

        def add(total: tuple, batch: dict) -> tuple:
            (_, sums), gradients = differentiate(params, batch)
            return jax.tree.map(jnp.add, total, (gradients, sums)), None

        zeros = jax.tree.map(jnp.zeros_like, params), (jnp.float32(0), jnp.float32(0))
        (gradients, (nll, weight)), _ = jax.lax.scan(add, zeros, parts)
    return jax.tree.map(lambda g: g / jnp.maximum(weight, 1), gradients), nll, weight


def evaluate(params: decoder.Params, batch: dict, frozen: decoder.Params | None = None, *, config: StepConfig,
             model: ModelConfig, adapt: LoraConfig = lora.NONE) -> tuple[jax.Array, jax.Array]:
    """(Σ nll in nats, Σ loss mask) of a batch."""
    whole = params if frozen is None else lora.merge(frozen, params, adapt)
    _, sums = objective.sums(whole, model, batch, 0.0, config.loss_chunk)
    return sums

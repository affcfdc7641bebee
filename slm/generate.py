"""Text from a model: prefill, decode with an explicit KV cache, samplers."""

import dataclasses
import functools
import json
from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from slm import checkpoint
from slm.model import decoder
from slm.model.presets import ModelConfig
from slm.text import chat
from slm.text.tokenizer import END_OF_TURN, Tokenizer, load_tokenizer


@dataclasses.dataclass(frozen=True)
class Sampler:
    """How the next token is drawn from its scores. Temperature 0 takes the likeliest."""
    temperature: float = 0.8
    top_k: int = 0  # keeps the k likeliest; 0: all
    top_p: float = 0.95  # keeps the likeliest whose probabilities reach p
    repetition_penalty: float = 1.0  # divides the positive scores of what came before (Keskar et al. 2019)

    def __post_init__(self):
        if self.temperature < 0 or self.top_k < 0 or not 0 < self.top_p <= 1 or self.repetition_penalty <= 0:
            raise ValueError(f"sampler {self}: temperature and top_k are at least 0, top_p is in (0, 1], "
                             "repetition_penalty above 0")

    def draw(self, scores_BV, seen_BV, key) -> jax.Array:
        """Next tokens [B]; `seen_BV` tells which ids each row already has."""
        if self.repetition_penalty != 1:
            punished = jnp.where(scores_BV > 0, scores_BV / self.repetition_penalty,
                                 scores_BV * self.repetition_penalty)
            scores_BV = jnp.where(seen_BV, punished, scores_BV)
        if self.temperature == 0:
            return jnp.argmax(scores_BV, axis=-1)
        return jax.random.categorical(key, self._kept(scores_BV / self.temperature))

    def _kept(self, scores_BV):
        if self.top_k == 0 and self.top_p == 1:
            return scores_BV
        ordered = jnp.sort(scores_BV, axis=-1, descending=True)
        least = ordered[:, min(self.top_k or scores_BV.shape[1], scores_BV.shape[1]) - 1]
        if self.top_p < 1:
            probabilities = jax.nn.softmax(ordered, axis=-1)
            before = jnp.cumsum(probabilities, axis=-1) - probabilities
            inside = jnp.sum(before < self.top_p, axis=-1) - 1  # the first is always inside
            least = jnp.maximum(least, jnp.take_along_axis(ordered, inside[:, None], axis=-1)[:, 0])
        return jnp.where(scores_BV >= least[:, None], scores_BV, -jnp.inf)


def generate(params: decoder.Params, config: ModelConfig, prompts: Sequence[Sequence[int]], new_tokens: int,
             sampler: Sampler, seed: int, end: int) -> list[list[int]]:
    """Continues prompts of any lengths together.

    Args:
      prompts: ids; each begins with the end-of-document token, as every document in training did.
      end: the token that ends a row; it is not part of the result.

    Returns:
      The new ids of each prompt, at most `new_tokens`.

    Raises:
      ValueError: an empty prompt, or prompt and answer longer than the model's context.
    """
    lengths = np.array([len(prompt) for prompt in prompts])
    if lengths.min(initial=1) < 1:
        raise ValueError("a prompt is empty: begin it with the end-of-document token")
    if lengths.max() + new_tokens > config.context:
        raise ValueError(f"a prompt of {lengths.max()} tokens and {new_tokens} new ones are more than the model's "
                         f"context of {config.context}: shorten one of them")
    width = -(-int(lengths.max()) // 32) * 32  # few shapes, so few compiles
    tokens = np.full((len(prompts), min(width, config.context)), end, np.int32)
    for row, prompt in zip(tokens, prompts):
        row[:len(prompt)] = prompt
    made = np.asarray(_run(params, config, sampler, new_tokens, end, tokens, lengths, jax.random.key(seed)))
    return [row[:np.argmax(row == end)].tolist() if (row == end).any() else row.tolist() for row in made]


@functools.partial(jax.jit, static_argnums=(1, 2, 3, 4))
def _run(params, config, sampler, new_tokens, end, tokens_BT, lengths_B, key):
    B, T = tokens_BT.shape
    cache = decoder.empty_cache(config, B, T + new_tokens)
    positions = jnp.broadcast_to(jnp.arange(T), (B, T))
    # Padding is written behind each prompt, in slots that decoding writes again before any query sees them.
    hidden, cache = decoder.hidden_states(params, config, tokens_BT, jnp.ones_like(tokens_BT), positions, cache)
    last = jnp.take_along_axis(hidden, (lengths_B - 1)[:, None, None], axis=1)[:, 0]
    rows = jnp.arange(B)
    seen = jnp.zeros((B, config.vocabulary_size), bool).at[rows[:, None], tokens_BT].max(positions < lengths_B[:, None])

    def choose(hidden_BD, seen, key, done):
        token = jnp.where(done, end, sampler.draw(decoder.logits(params, hidden_BD), seen, key))
        return token, seen.at[rows, token].set(True), done | (token == end)

    def body(carry):
        index, made, token, seen, done, cache, key = carry
        key, now = jax.random.split(key)
        hidden, cache = decoder.hidden_states(params, config, token[:, None], jnp.ones((B, 1), jnp.int32),
                                              (lengths_B + index - 1)[:, None], cache)
        token, seen, done = choose(hidden[:, 0], seen, now, done)
        return index + 1, made.at[:, index].set(token), token, seen, done, cache, key

    key, now = jax.random.split(key)
    token, seen, done = choose(last, seen, now, jnp.zeros(B, bool))
    made = jnp.full((B, new_tokens), end, jnp.int32).at[:, 0].set(token)
    carry = (jnp.int32(1), made, token, seen, done, cache, key)
    return jax.lax.while_loop(lambda carry: (carry[0] < new_tokens) & ~jnp.all(carry[4]), body, carry)[1]


@dataclasses.dataclass(frozen=True)
class GenerateConfig:
    """The generate job."""
    job: str = "generate"
    variant: str = "sample"
    checkpoint: str = ""  # the workdir of a training; empty: the newest under runs/
    prompts: str = "患者は|主訴は|糖尿病とは、"  # PROMPT[|PROMPT…]
    prompts_file: str = ""  # a prompt a line, instead
    new_tokens: int = 100
    seed: int = 0
    sampler: Sampler = Sampler()


def run(config: GenerateConfig, workdir: Path) -> dict:
    """Prints and records a continuation of each prompt; returns what `result.json` holds."""
    source = Path(config.checkpoint) if config.checkpoint else checkpoint.newest(Path("runs"))
    params, model, tokenizer = load(source)
    if config.prompts_file:
        prompts = Path(config.prompts_file).read_text(encoding="utf-8").splitlines()
    else:
        prompts = config.prompts.split("|")
    answers = checkpoint.read_about(source)["config"].get("job") == "sft"  # a fine-tuned model is asked, not continued
    texts = complete(params, model, tokenizer, prompts, config.new_tokens, config.sampler, config.seed, answers)
    for prompt, text in zip(prompts, texts):
        print(f"{prompt}→{text}\n")
    (workdir / "samples.jsonl").write_text("".join(
        json.dumps({"prompt": prompt, "text": text}, ensure_ascii=False) + "\n"
        for prompt, text in zip(prompts, texts)), encoding="utf-8")
    return {"checkpoint": str(source), "samples": str(workdir / "samples.jsonl"), "prompts": len(prompts)}


def load(workdir: Path, step: int | None = None) -> tuple[decoder.Params, ModelConfig, Tokenizer]:
    """What `read` gives, with the blocks unrolled, for decoding."""
    params, model, tokenizer = read(workdir, step)
    return jax.tree.map(jnp.asarray, decoder.unrolled(params)), model, tokenizer


def read(workdir: Path, step: int | None = None) -> tuple[decoder.Params, ModelConfig, Tokenizer]:
    """Parameters (of the newest checkpoint, or of `step`), model and tokenizer of a training workdir."""
    # On a CPU unrolled layers decode faster than scanned ones (three times at 1.2B, in a prototype before this code).
    model = dataclasses.replace(checkpoint.read_model(workdir), scan_layers=False, remat="none")
    shapes = jax.eval_shape(functools.partial(decoder.initialize, model), jax.random.key(0))
    params = checkpoint.read_params(workdir, step, shapes)
    return params, model, load_tokenizer(workdir / "tokenizer")


def complete(params, model: ModelConfig, tokenizer: Tokenizer, prompts: Sequence[str], new_tokens: int,
             sampler: Sampler, seed: int, answers: bool = False) -> list[str]:
    """Continuations of prompts, as text; or the assistant's answers to them."""
    end = tokenizer.special(END_OF_TURN) if answers else tokenizer.end_of_document
    if answers:
        ids = [chat.encode(tokenizer, [{"role": "user", "content": prompt}], reply=True).ids for prompt in prompts]
    else:
        ids = [[end, *tokenizer.encode(prompt)] for prompt in prompts]
    return [tokenizer.decode(row) for row in generate(params, model, ids, new_tokens, sampler, seed, end)]

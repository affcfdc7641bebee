"""Model sizes: configuration, presets, number of parameters and FLOPs per token."""

import dataclasses
from typing import Literal

REPEATS = 3  # features of a token of a model with label groups: see `model/label_heads.py`


@dataclasses.dataclass(frozen=True)
class LabelGroup:
    """Labels of which one is right, for a text or for each of its spans.

    Attributes:
      kind: classify gives a text one of the labels; tag gives spans of it a label, by the classes outside, and begin
        and inside of each label (BIO, Ramshaw & Marcus 1995).
      texts: what each label of a classification says; empty: nothing more.
      reads: what of a question is the text: what it quotes, or all of it, where the wording differs from row to row.
    """
    name: str
    kind: Literal["classify", "tag"]
    labels: tuple[str, ...]
    texts: tuple[str, ...] = ()
    reads: Literal["text", "question"] = "text"

    @property
    def classes(self) -> int:
        return 1 + 2 * len(self.labels) if self.kind == "tag" else len(self.labels)


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """A decoder with RoPE and grouped-query attention, and how it is computed.

    `mlp="silu"` has two matrices with SiLU between them, as NCVC-slm-1; `"swiglu"` has three, as Llama.
    With `label_groups` its head gives labels in place of tokens, and attention sees both ways (`model/label_heads.py`).
    """
    preset: str = "laptop"
    vocabulary_size: int = 6000
    layers: int = 4
    width: int = 320
    query_heads: int = 5
    kv_heads: int = 1
    head_size: int = 64
    mlp_width: int = 1280
    mlp: Literal["silu", "swiglu"] = "silu"
    context: int = 1024
    rope_theta: float = 10_000.0
    norm_epsilon: float = 1e-5
    label_groups: tuple[LabelGroup, ...] = ()
    # How it is computed; the weights do not depend on these.
    compute_dtype: Literal["float32", "bfloat16"] = "float32"
    scan_layers: bool = False
    remat: Literal["none", "dots", "full"] = "none"  # what the backward pass recomputes
    attention: Literal["auto", "xla", "splash", "cudnn"] = "auto"
    attention_block: int = 0  # queries computed together; 0: the implementation's default

    @property
    def head_width(self) -> int:
        """Columns of the head: the vocabulary, or the classes of all label groups, padded for a mesh to cut them."""
        if not self.label_groups:
            return self.vocabulary_size
        return -(-sum(group.classes for group in self.label_groups) // 8) * 8

    def __post_init__(self):
        if self.query_heads % self.kv_heads:
            raise ValueError(f"model.query_heads={self.query_heads} is not a multiple of "
                             f"model.kv_heads={self.kv_heads}: each key head must serve as many query heads")
        if self.head_size % 2:
            raise ValueError(f"model.head_size={self.head_size} is odd: RoPE rotates pairs of features, make it even")


PRESETS = {
    "debug": ModelConfig("debug", vocabulary_size=3072, layers=2, width=64, query_heads=8, kv_heads=4, head_size=8,
                         mlp_width=256, context=128),
    "laptop": ModelConfig("laptop"),
    "small": ModelConfig("small", vocabulary_size=32_768, layers=12, width=768, query_heads=12, kv_heads=4,
                         mlp_width=3072, context=2048, compute_dtype="bfloat16", scan_layers=True),
    "ncvc_slm_1": ModelConfig("ncvc_slm_1", vocabulary_size=32_768, layers=24, width=2048, query_heads=32, kv_heads=8,
                              mlp_width=8192, context=2048, compute_dtype="bfloat16", scan_layers=True, remat="full"),
    "slm_1b": ModelConfig("slm_1b", vocabulary_size=32_768, layers=24, width=2048, query_heads=32, kv_heads=8,
                          mlp_width=5504, mlp="swiglu", context=2048, compute_dtype="bfloat16", scan_layers=True,
                          remat="full"),
}


def parameter_count(config: ModelConfig) -> int:
    """The exact number of parameters, embedding and head included."""
    attention = config.width * config.head_size * 2 * (config.query_heads + config.kv_heads)
    mlp = config.width * config.mlp_width * (3 if config.mlp == "swiglu" else 2)
    norms = 2 * config.width
    return (config.layers * (attention + mlp + norms) + config.width
            + (config.vocabulary_size + config.head_width + REPEATS * bool(config.label_groups)) * config.width)


def flops_per_token(config: ModelConfig, seq_len: int) -> float:
    """Training FLOPs per token by the usual count: 6N, N without the embedding table, + 12·L·D·T for attention.

    D is the total size of the heads, and masked scores count as computed (PaLM, appendix B).
    """
    matrices = parameter_count(config) - config.vocabulary_size * config.width
    return 6 * matrices + 12 * config.layers * config.query_heads * config.head_size * seq_len

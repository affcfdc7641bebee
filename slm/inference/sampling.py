"""How the next token is drawn. Without JAX, since llama.cpp takes the same settings."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Sampler:
    """Temperature 0 takes the most likely token."""
    temperature: float = 0.8
    top_k: int = 0  # keeps the k most likely; 0: all
    top_p: float = 0.95  # keeps the most likely whose probabilities reach p
    repetition_penalty: float = 1.0  # divides the positive logits of earlier tokens (Keskar et al. 2019)

    def __post_init__(self):
        if self.temperature < 0 or self.top_k < 0 or not 0 < self.top_p <= 1 or self.repetition_penalty <= 0:
            raise ValueError(f"{self}: temperature and top_k are at least 0, top_p is in (0, 1], repetition_penalty "
                             "above 0")


GREEDY = Sampler(temperature=0.0)


@dataclasses.dataclass(frozen=True)
class Settings(Sampler):
    """How an answer in a conversation is drawn, and how long it may be."""
    temperature: float = 0.7
    max_tokens: int = 512
    seed: int = 0

    def __post_init__(self):
        super().__post_init__()
        if self.max_tokens < 1 or not 0 <= self.seed < 2**32 - 1:
            raise ValueError(f"{self}: max_tokens is at least 1, seed from 0 to 4294967294")

"""A causal model in the format of Hugging Face transformers."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from slm.inference import fit
from slm.tasks.task import Message, without_system
from slm.weight_files import WeightFiles

_DTYPES = ("float32", "bfloat16", "float16")


class HuggingFace:
    """The prompt follows the tokenizer's chat template; without one, texts are joined by blank lines, as base models
    expect. Code bundled with a model is never run."""

    def __init__(self, path_or_name: str, dtype: str = "bfloat16", local_files_only: bool = True,
                 batch_tokens: int = 4096):
        """
        Args:
          path_or_name: a folder, or a model of the hub that is already cached.
          local_files_only: False allows transformers to download it.
          batch_tokens: of a forward pass, padding included.

        Raises:
          ValueError: an unknown dtype, a quantised model, a broken file, or weights that are not those of its config.
          FileNotFoundError: no such model on this machine, or one without safetensors.
          RuntimeError: without torch or transformers.
        """
        if dtype not in _DTYPES:
            raise ValueError(f"dtype={dtype!r} is not known: choose one of {', '.join(_DTYPES)}")
        try:
            import torch
            from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
        except ImportError as error:
            raise RuntimeError(f"{path_or_name} needs torch and transformers ({error}): pip install "
                               "'slm[hugging_face]'") from None
        # Safetensors only, since the other format runs the code it holds.
        allowed: Any = {"local_files_only": local_files_only, "trust_remote_code": False}
        try:
            config = AutoConfig.from_pretrained(path_or_name, **allowed)
            settings = config.to_dict()
            quantized = bool(settings.get("quantization_config") or settings.get("compression_config"))
            if not quantized:
                self._tokenizer = AutoTokenizer.from_pretrained(path_or_name, **allowed)
                result: Any = AutoModelForCausalLM.from_pretrained(
                    path_or_name, dtype=getattr(torch, dtype), use_safetensors=True, output_loading_info=True,
                    **allowed)
                self._model, loaded = result
        except Exception as error:  # a broken file raises anything
            is_missing = isinstance(error, OSError) or not Path(path_or_name, "config.json").exists()
            raise (FileNotFoundError if is_missing else ValueError)(
                f"{path_or_name} is not a model that transformers can load ({str(error)[:300]}): give a folder with "
                "config.json, safetensors and tokenizer, or allow the download") from None
        if quantized:
            raise ValueError(f"{path_or_name} has a quantization_config in its config.json: give the unquantised "
                             "model, or serve it (vLLM, llama.cpp) and use backend=openai")
        _refuse_other_weights(path_or_name, self._model, loaded)
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        self._model.to(self._device).eval()
        limits = getattr(self._model.config, "max_position_embeddings", None), self._tokenizer.model_max_length
        self.name, self.context = str(path_or_name), min(limit for limit in limits if limit)
        self.truncated = 0
        self.template = "the model's own chat template" if self._tokenizer.chat_template else "plain text (no template)"
        self._batch_tokens = batch_tokens

    def tokenize(self, text: str) -> list[int]:
        return list(self._tokenizer(text, add_special_tokens=False).input_ids)

    def generate(self, conversations: Sequence[list[Message]], max_tokens: int) -> list[str]:
        """The greedy reply to each conversation, to the end of the turn or `max_tokens`.

        Raises:
          ValueError: the context is too short for a prompt and `max_tokens`.
        """
        import torch
        prompts = [self._encode(self._fitting(conversation, max_tokens)) for conversation in conversations]
        replies = [""] * len(prompts)
        for batch in self._batches([len(prompt) + max_tokens for prompt in prompts]):
            ids, mask = self._padded([prompts[i] for i in batch], left=True)
            with torch.inference_mode():
                # Overrides settings of the model that would change greedy search.
                output = self._model.generate(
                    input_ids=ids, attention_mask=mask, max_new_tokens=max_tokens, do_sample=False, num_beams=1,
                    repetition_penalty=1.0, temperature=None, top_p=None, top_k=None, pad_token_id=self._pad())
            for i, row in zip(batch, output[:, ids.shape[1]:]):
                replies[i] = str(self._tokenizer.decode(row, skip_special_tokens=True))
        return replies

    def log_likelihoods(self, requests: Sequence[tuple[list[Message], Sequence[str]]]) -> list[list[float]]:
        """For each conversation, log P (nats) of each continuation as the beginning of the reply.

        Raises:
          ValueError: the context is too short for a prompt and its continuations.
        """
        import torch
        inputs: dict[tuple[int, ...], list[tuple[int, int, int, tuple[int, ...]]]] = {}
        for r, (conversation, continuations) in enumerate(requests):
            # Joined text may be split differently at the seam: what follows the common beginning is scored.
            longest = max((len(self.tokenize(text)) for text in continuations), default=0)
            text = self._text(self._fitting(conversation, longest + 2))
            prompt = self._ids(text)
            for c, continuation in enumerate(continuations):
                whole = self._ids(text + continuation)
                start = next((i for i, (a, b) in enumerate(zip(prompt, whole)) if a != b), min(len(prompt), len(whole)))
                start = max(1, start)
                # Continuations of a single token share the forward pass of their prompt.
                inputs.setdefault(tuple(whole[:-1]), []).append((r, c, start, tuple(whole[start:])))
        result = [[0.0] * len(continuations) for _, continuations in requests]
        rows = list(inputs)
        for batch in self._batches([len(row) for row in rows]):
            ids, mask = self._padded([rows[i] for i in batch], left=False)
            with torch.inference_mode():
                logits = self._model(input_ids=ids, attention_mask=mask).logits
            for row, i in enumerate(batch):
                for r, c, start, targets in inputs[rows[i]]:
                    scores = logits[row, start - 1:start - 1 + len(targets)].float().log_softmax(-1)
                    chosen = torch.tensor(targets, dtype=torch.long, device=scores.device)
                    result[r][c] = scores.gather(1, chosen[:, None]).sum().item()
        return result

    # The prompt -------------------------------------------------------------------------------------------------------

    def _text(self, conversation: list[Message]) -> str:
        if not self._tokenizer.chat_template:
            return "".join(message["content"] + "\n\n" for message in conversation)
        from jinja2 import TemplateError
        try:
            return self._templated(conversation)
        except TemplateError:  # a template without a system role
            return self._templated(without_system(conversation))

    def _templated(self, conversation: list[Message]) -> str:
        return str(self._tokenizer.apply_chat_template(conversation, tokenize=False, add_generation_prompt=True))

    def _ids(self, text: str) -> list[int]:
        """A template contains the special tokens; without one the tokenizer adds its BOS token."""
        if self._tokenizer.chat_template:
            return self.tokenize(text)
        ids, end = list(self._tokenizer(text).input_ids), self._tokenizer.eos_token_id
        return ids[:-1] if ids and ids[-1] == end else ids

    def _encode(self, conversation: list[Message]) -> list[int]:
        return self._ids(self._text(conversation))

    def _fitting(self, conversation: list[Message], reserved: int) -> list[Message]:
        limit = self.context - reserved
        result = fit.shorten(conversation, lambda messages: len(self._encode(messages)) <= limit)
        if result is None:
            raise ValueError(f"a prompt does not fit in {self.name}: its context of {self.context} tokens leaves "
                             f"{limit} beside {reserved} for the reply; reserve fewer, or give fewer examples")
        self.truncated += result is not conversation
        return result

    # Batches ----------------------------------------------------------------------------------------------------------

    def _batches(self, lengths: Sequence[int]) -> Iterator[list[int]]:
        """Indices of rows of similar length, the longest first, so that what does not fit in memory fails at once."""
        order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
        while order:
            count = max(1, self._batch_tokens // lengths[order[0]])
            yield order[:count]
            order = order[count:]

    def _pad(self) -> int:
        candidates = self._tokenizer.pad_token_id, self._tokenizer.eos_token_id, 0
        return next(token for token in candidates if token is not None)

    def _padded(self, rows: Sequence[Sequence[int]], left: bool) -> tuple[Any, Any]:
        import torch
        longest = max(map(len, rows))
        ids = torch.full((len(rows), longest), self._pad(), dtype=torch.long)
        mask = torch.zeros_like(ids)
        for i, row in enumerate(rows):
            columns = slice(longest - len(row), None) if left else slice(0, len(row))
            ids[i, columns] = torch.tensor(row, dtype=torch.long)
            mask[i, columns] = 1
        return ids.to(self._device), mask.to(self._device)


def _refuse_other_weights(name: str, model: Any, loaded: dict[str, Any]) -> None:
    """Raises a `ValueError` for tensors that transformers passes over, makes up or converts, or that are no numbers."""
    import torch
    from transformers.utils import cached_file
    for state in ("unexpected", "missing", "mismatched"):
        if names := sorted(map(str, loaded[f"{state}_keys"])):
            raise ValueError(f"{name} and its config.json do not match: {len(names)} tensors are {state}, {names[0]} "
                             "first; use files of the same unquantised model, with adapters merged")
    if config_file := cached_file(name, "config.json", local_files_only=True):
        WeightFiles(Path(config_file).parent).refuse_integers()
    for tensor, values in model.state_dict().items():
        if values.is_floating_point() and not torch.isfinite(values).all():
            raise ValueError(f"{name}: {tensor} holds NaN or infinity in {values.dtype}: copy the files again, use an "
                             "earlier checkpoint of that training, or another dtype")

"""MeCab, then Unigram pieces, in transformers: `AutoTokenizer.from_pretrained(FOLDER/mecab, trust_remote_code=True)`.

It needs the package slm, which made the model. Without it use the parent folder, whose tokenizer has no MeCab and
splits a few words differently than in training.
"""

from pathlib import Path

from transformers import PreTrainedTokenizer

from slm.text.normalize import normalize
from slm.text.tokenizer import load_tokenizer


class SlmTokenizer(PreTrainedTokenizer):
    """The same ids as slm's, except that transformers parses control symbols spelled out in a text."""

    def __init__(self, name_or_path: str = "", **kwargs):
        self._slm = load_tokenizer(Path(name_or_path) / "tokenizer")
        symbols = [piece for index, piece in enumerate(self._slm.pieces(range(len(self._slm))))
                   if self._slm.is_special(index)]
        kwargs.setdefault("additional_special_tokens", symbols)
        self._ids = {piece: index for index, piece in enumerate(self._slm.pieces(range(len(self._slm))))}
        super().__init__(name_or_path=name_or_path, **kwargs)

    @property
    def vocab_size(self) -> int:
        return len(self._slm)

    def get_vocab(self) -> dict[str, int]:
        return dict(self._ids)

    def _tokenize(self, text: str) -> list[str]:
        return self._slm.pieces(self._slm.encode(normalize(text)))

    def _convert_token_to_id(self, token: str) -> int:
        return self._ids.get(token, self._slm.unknown)

    def _convert_id_to_token(self, index: int) -> str:
        return self._slm.pieces([index])[0]

    def convert_tokens_to_string(self, tokens: list[str]) -> str:
        return self._slm.decode(self.convert_tokens_to_ids(tokens))

    def save_vocabulary(self, save_directory: str, filename_prefix: str | None = None) -> tuple[str, ...]:
        raise NotImplementedError("copy the folder `mecab` instead")

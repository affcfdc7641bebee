"""Our normalisation as a SentencePiece character map, for Hugging Face's tokenizers and llama.cpp."""

import functools
import itertools
import sys
import unicodedata

import sentencepiece

from slm.text.normalize import FRACTIONS, SUBSCRIPTS, SUPERSCRIPTS, normalize

_DIGITS = "0123456789０１２３４５６７８９"
_RAISED, _LOWERED = ("".join(map(chr, table)) for table in (SUPERSCRIPTS, SUBSCRIPTS))


@functools.cache
def characters() -> dict[str, str]:
    """`normalize` of single characters, and of characters that compose with a following mark."""
    singles = [chr(code) for code in range(1, sys.maxunicode + 1) if not 0xD800 <= code < 0xE000]
    decomposed = [unicodedata.normalize("NFD", single) for single in singles if unicodedata.decomposition(single)]
    half_width = [base + voicing for base in map(chr, range(0xFF66, 0xFF9E)) for voicing in "\uff9e\uff9f"]
    return _changed([*singles, *decomposed, *half_width, "\r\n"])


def in_context() -> dict[str, str]:
    """Fractions beside digits, and short runs of superscript and subscript digits."""
    fractions = [before + fraction + after for before in ("", *_DIGITS) for fraction in FRACTIONS
                 for after in ("", *_DIGITS)]
    runs = [run for alphabet in (_RAISED, _LOWERED) for run in _runs(alphabet, 2)]
    beside = [run + digit for run in runs for digit in _DIGITS]
    beside += [digit + run for run in _runs(_LOWERED, 2) for digit in _DIGITS]
    return _changed([*fractions, *runs, *_runs(_RAISED, 3), *beside])


@functools.cache
def whole() -> bytes:
    """For programs that take the longest match anywhere, as llama.cpp does."""
    return _compiled(characters() | in_context())


@functools.cache
def of_characters() -> bytes:
    """For programs that only replace characters, after marks were inserted beside superscript and subscript digits."""
    plain = {chr(old): chr(new) for old, new in (SUPERSCRIPTS | SUBSCRIPTS).items()}
    return _compiled(characters() | plain)


def _compiled(rules: dict[str, str]) -> bytes:
    """Rules as SentencePiece's precompiled map."""
    from sentencepiece import sentencepiece_model_pb2
    sentencepiece.set_min_log_level(1)  # it logs each map
    spec = sentencepiece.SentencePieceNormalizer(norm_map=list(rules.items())).serialized_normalizer_spec()
    return sentencepiece_model_pb2.NormalizerSpec.FromString(  # type: ignore[attr-defined]
        spec).precompiled_charsmap


def _runs(alphabet: str, longest: int) -> list[str]:
    return ["".join(run) for size in range(1, longest + 1) for run in itertools.product(alphabet, repeat=size)]


def _changed(texts: list[str]) -> dict[str, str]:
    return {text: normalized for text in texts if (normalized := normalize(text)) != text}

"""Our normalisation as a SentencePiece character map, which Hugging Face's tokenizers and llama.cpp apply."""

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
    """What `normalize` makes of single characters and of those that compose with a mark after them."""
    singles = [chr(code) for code in range(1, sys.maxunicode + 1) if not 0xD800 <= code < 0xE000]
    apart = [unicodedata.normalize("NFD", own) for own in singles if unicodedata.decomposition(own)]
    half_width = [base + mark for base in map(chr, range(0xFF66, 0xFF9E)) for mark in "\uff9e\uff9f"]
    return _changed([*singles, *apart, *half_width, "\r\n"])


def in_context() -> dict[str, str]:
    """Fractions beside digits, and short runs of raised and lowered digits: longest matches of a character map."""
    fractions = [before + own + after for before in ("", *_DIGITS) for own in FRACTIONS for after in ("", *_DIGITS)]
    runs = [run for alphabet in (_RAISED, _LOWERED) for run in _runs(alphabet, 2)]
    beside = [run + digit for run in runs for digit in _DIGITS]
    beside += [digit + run for run in _runs(_LOWERED, 2) for digit in _DIGITS]
    return _changed([*fractions, *runs, *_runs(_RAISED, 3), *beside])


@functools.cache
def whole() -> bytes:
    """For a program that takes the longest match anywhere, as llama.cpp does."""
    return _compiled(characters() | in_context())


@functools.cache
def of_characters() -> bytes:
    """For one that only replaces characters, after marks were put in beside runs of raised and lowered digits."""
    plain = {chr(old): chr(new) for old, new in (SUPERSCRIPTS | SUBSCRIPTS).items()}
    return _compiled(characters() | plain)


def _compiled(rules: dict[str, str]) -> bytes:
    """Rules as SentencePiece's precompiled map."""
    from sentencepiece import sentencepiece_model_pb2
    sentencepiece.set_min_log_level(1)  # it tells of each map
    spec = sentencepiece.SentencePieceNormalizer(norm_map=list(rules.items())).serialized_normalizer_spec()
    return sentencepiece_model_pb2.NormalizerSpec.FromString(spec).precompiled_charsmap


def _runs(alphabet: str, longest: int) -> list[str]:
    return ["".join(run) for size in range(1, longest + 1) for run in itertools.product(alphabet, repeat=size)]


def _changed(texts: list[str]) -> dict[str, str]:
    return {text: made for text in texts if (made := normalize(text)) != text}

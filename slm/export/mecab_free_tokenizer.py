"""Our vocabulary as a `tokenizers` Unigram file without MeCab, which any Hugging Face library reads."""

import itertools
import re
from collections.abc import Iterable, Sequence

from slm.export import charsmap
from slm.text import normalize
from slm.text.tokenizer import WHITE_SPACE_SYMBOLS, Tokenizer

_SPACE = "▁"
_OUT_OF_REACH = 1000.0  # how far below the least likely piece: text is never split into such a piece


def build(tokenizer: Tokenizer):
    """A `tokenizers.Tokenizer` with our ids.

    Unlike ours it parses control symbols that are spelled out in a text, as Hugging Face's tokenizers do; the chat
    template spells them so that it does not.

    Raises:
      RuntimeError: without the package.
    """
    try:
        import tokenizers
    except ImportError:
        raise RuntimeError("a Hugging Face tokenizer needs the package tokenizers: pip install 'slm[export]'") from None
    from tokenizers import AddedToken, decoders, models, pre_tokenizers
    pieces, scores = tokenizer.pieces(range(len(tokenizer))), tokenizer.scores()
    hidden_pieces = [tokenizer.is_special(index) or tokenizer.is_byte(index) for index in range(len(tokenizer))]
    least = min(score for score, hidden in zip(scores, hidden_pieces) if not hidden) - _OUT_OF_REACH
    vocabulary = [(piece, least if hidden else score) for piece, score, hidden in zip(pieces, scores, hidden_pieces)]
    result = tokenizers.Tokenizer(models.Unigram(vocabulary, unk_id=tokenizer.unknown, byte_fallback=True))
    result.normalizer = _normalizer()
    # A Unigram of `tokenizers` also finds hidden pieces in normalised text, so these are never left whole.
    names = "|".join(re.escape(piece[1:]) for piece, hidden in zip(pieces, hidden_pieces) if hidden)
    result.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(tokenizers.Regex(f"<(?={names})"), "isolated"),
        pre_tokenizers.Metaspace(replacement=_SPACE, prepend_scheme="never", split=False)])
    result.decoder = decoders.Sequence([decoders.Replace(_SPACE, " "), decoders.ByteFallback(), decoders.Fuse()])
    result.add_special_tokens([AddedToken(piece, special=True, normalized=False)
                             for index, piece in enumerate(pieces) if tokenizer.is_special(index)])
    result.add_tokens([AddedToken(symbol, normalized=True) for symbol in WHITE_SPACE_SYMBOLS])
    return result


def _normalizer():
    """`text.normalize`: marks and spaces at the borders of fractions and superscript runs, then single characters.

    Nothing is inserted at the beginning of a text, on which tokenizers 0.23 panics.
    """
    from tokenizers import Regex, normalizers
    digit, fraction = "[0-9０-９]", f"[{normalize.FRACTIONS}]"
    raised, lowered = ("[" + "".join(map(chr, table)) + "]" for table in (normalize.SUPERSCRIPTS, normalize.SUBSCRIPTS))
    marks = {f"(?<={digit})(?={fraction})|(?<={fraction})(?={digit}|{fraction})": " ",
             f"(?<=[^{raised[1:]})(?={raised})": "^",
             f"(?<={digit})(?={lowered})|(?<=[^{lowered[1:-1]}0-9０-９])(?={lowered}+{digit})": "_",
             f"(?<={raised}|{lowered})(?={digit})": " "}
    return normalizers.Sequence([
        normalizers.NFC(),
        *(normalizers.Replace(Regex(pattern), inserted) for pattern, inserted in marks.items()),
        normalizers.Precompiled(charsmap.of_characters()),
        # `Precompiled` never applies a rule of two characters: half-width voiced kana come out decomposed.
        normalizers.NFC()])


def difference(ours: Tokenizer, others: Iterable[tuple[str, Sequence[int]]]) -> float:
    """The share of our tokens that another tokenizer splits differently, over pairs (text, its ids)."""
    tokens = missed = 0
    for text, ids in others:
        expected = _located(ours, ours.encode(text))
        missed += len(expected - _located(ours, ids))
        tokens += len(expected)
    return missed / tokens if tokens else 0.0


def _located(tokenizer: Tokenizer, ids: Sequence[int]) -> set[tuple[int, int]]:
    """(end in bytes, id) of each token."""
    sizes = [1 if tokenizer.is_byte(index) else len(piece.replace(_SPACE, " ").encode())
             for index, piece in zip(ids, tokenizer.pieces(ids))]
    return set(zip(itertools.accumulate(sizes), ids))

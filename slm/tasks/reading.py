"""Model output → answer, as the benchmarks' own code reads it, but nothing is executed.

Choices and lists as JMED-LLM reads them (sociocom/JMED-LLM, src/utils.py), exams as IgakuQA (jungokasai/IgakuQA).
"""

import ast
import json
import re
import unicodedata
import warnings
from collections.abc import Sequence

NONE = "None"  # a choice that could not be read; for kappa one more class, which sorts after F

_LONGEST = 100_000  # characters; a list that long is a model that repeats itself

Entity = str | int | float | bool | None


def read_letter(output: str) -> str:
    """The first half-width letter of A–F, wherever it stands, or NONE."""
    found = re.search("[A-F]", output)
    return found[0] if found else NONE


def find_letter(output: str, options: Sequence[tuple[str, str]]) -> str:
    """The letter that a person would take a written answer to choose, or NONE.

    In this order: the letter alone; in \\boxed{}; after a word like 正解 or "answer"; at the beginning, as a label; the
    last one that stands alone; the only option whose text occurs. A letter that is denied (Aは誤り) or is part of
    another term (A型, CT, B12, an English article) does not count.
    """
    text = unicodedata.normalize("NFKC", output)
    letters = "".join(letter for letter, _ in options)
    alone = re.sub(r"[\s\W_]", "", text)
    if len(alone) == 1 and alone.upper() in letters:
        return alone.upper()
    either = f"[{letters}{letters.lower()}]"
    # Markdown, brackets and quotes around a letter; then what denies it or makes it part of another term.
    after = r"(?![A-Za-z0-9]|\s*[-型群期波肝鎖株種]|細胞|領域|(?<=A)\s(?!is|because|since|as)[a-z])"
    denied = (rf"(?!(?:\s*[、,・/や]\s*[{letters}])*[\s*\"'」』)\]}}.:,。、]*(?:は|が|も|では|を|って)?\s*"
              r"(?:誤|間違|違|不適|不正|除|否定|ではな|でな|じゃな|ありませ|な[いく]|"
              r"is wrong|is incorrect|is not|not |or |か[A-Z]))")
    patterns = (
        (rf"\\boxed\s*\{{\s*(?:\\text\s*\{{)?\s*({either})\b", -1),
        (rf"(?:正解|正答|答え?|解答|回答|選択|(?i:answer|choice|option))\s*(?:(?i:is)|は|が|を|:|=|\s)*"
         rf"(?:選択肢)?[\s*\"'「『(\[{{:]*({either}){after}{denied}", -1),
        (rf"\A[\s*\"'「『(\[#]*({either})[\s*\"'」』)\]]*(?:[.:。)]|で|が正|\n){denied}", 0),
        (rf"(?<![A-Za-z0-9])(?<!ビタミン)(?<!型)([{letters}]){after}{denied}", -1),
        (rf"[(\[「]({either})[)\]」]", -1))
    labels = re.findall(rf"(?m)^\W*([{letters}])\s*[.:)]", text)
    for index, (pattern, chosen) in enumerate(patterns):
        if index == 2 and len(set(labels)) > 1:  # every option is discussed
            continue
        if matches := re.findall(pattern, text):
            return matches[chosen].upper()
    named = [letter for letter, option in options if option and unicodedata.normalize("NFKC", option) in text]
    return named[0] if len(named) == 1 else NONE


def read_list(output: str) -> tuple[list[Entity], bool]:
    """(entities, whether the answer is unread). An unread answer has no entities.

    The output is read as a Python list of literals, as `list(…)` of a literal, or as a sum of these. The reference runs
    it with `eval`, and so also reads other calls, comprehensions and arithmetic, which are unread here. So is what the
    reference fails at later: lists and dicts among the entities.
    """
    try:
        if len(output) > _LONGEST:
            raise ValueError
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of escapes like \d
            entities = _list(output)
        if not all(isinstance(entity, Entity) for entity in entities):
            raise ValueError
        json.dumps(entities, ensure_ascii=False).encode()  # lone surrogates, numbers too long to be written down
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):  # all that literal_eval may raise
        return [], True
    return entities, False


def _list(source: str) -> list:
    node, terms = ast.parse(source.lstrip(" \t"), mode="eval").body, []
    while isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        terms.append(node.right)
        node = node.left
    return [entity for term in (node, *reversed(terms)) for entity in _term(term)]


def _term(node: ast.expr) -> list:
    match node:
        case ast.Call(func=ast.Name(id="list"), args=[argument], keywords=[]):
            return list(ast.literal_eval(argument))
    value = ast.literal_eval(node)
    if not isinstance(value, list):
        raise ValueError
    return value


def read_exam_answer(output: str) -> str:
    """An output as the reference's scripts read it: full-width characters (kana too) made half-width, then lower case.

    Nothing is stripped. Equals mojimoji.zen_to_han, which they use, on each character of the Basic Multilingual Plane.
    """
    return output.translate(_HALF_WIDTH).lower()


def is_right(problem_id: str, prediction: str, answer: tuple[str, ...]) -> bool:
    """As the reference scores: the letters between commas are the right ones, in any order.

    Nothing is stripped or lower-cased here. Two problems accept more, as the ministry did.
    """
    letters = sorted(prediction.split(","))
    accepted = {"116A71": [letters], "112B30": [["a"], ["d"]]}.get(problem_id, [])
    return letters in (*accepted, sorted(answer))


def _half_width() -> dict[int, str]:
    single = [chr(code) for code in range(0xFF61, 0xFFA0)]
    marked = [letter + mark for letter in single for mark in "ﾞﾟ"]  # half-width, the voicing mark follows its letter
    kana = {unicodedata.normalize("NFKC", half): half for half in (*single, *marked)}
    table = {chr(code): chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F)} | kana
    table |= dict(zip("‘’”　￥゛゜", "`'\" ¥ﾞﾟ"))
    left = "＂＇｀ヷヺ\u3099\u309a"  # as mojimoji does
    return {ord(full): half for full, half in table.items() if len(full) == 1 and full not in left}


_HALF_WIDTH = _half_width()

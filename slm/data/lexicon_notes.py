"""Synthetic notes with the names of a user's lists of diseases and drugs: training data for extraction."""

import itertools
import random
import re
from collections.abc import Mapping, Sequence

from slm.sample.short_notes import OXYGEN, QUESTIONS, ask, notes, with_fixed
from slm.tasks.task import Item

# Entries of the lists that are not names: findings denied or doubted, operations, times, phrases.
_NO_DISEASE = re.compile("ない|なく|なし|無し|無$|有$|有り|あり|不可|正常|陰性|陽性|疑|既往|予防|術|検査|治療|"
                         "期間|将来|本朝|今朝|家族|良好|改善|みられ|認め|伴|強い|児生存|"
                         "リスク|特$|[等をがはで]|ある|[ぁ-ん]{5}|[、。・/()「」 ]")
_DISEASE_END = re.compile("(?:症|病|癌|炎|[^浮]腫|腫瘍|症候群|不全|梗塞|骨折|潰瘍|ヘルニア|ポリープ|貧血|結核|"
                          "狭窄|中毒|脱臼|奇形)$")
_NO_DRUG = re.compile("[(\\[「」)\\]0-9/.%、 ]|[ぁ-ん]")
_SALT = re.compile("(?:水和物|[一二三]?(?:塩酸|硫酸|リン酸|酢酸|臭化水素酸|ベシル酸|メシル酸|マレイン酸|フマル酸|"
                   "酒石酸|クエン酸|コハク酸|トシル酸|シュウ酸)塩|ナトリウム|カリウム|カルシウム)+$")
_FORMS = {  # slot → dosage forms, the first that matches decides
    "topical": re.compile("軟膏|クリーム|点眼|点鼻|貼付|テープ|パップ|ローション|吸入|外用|坐剤|坐薬|ゲル|スプレー|"
                          "うがい|消毒|シャンプー"),
    "injected": re.compile("注|輸液|透析液|点滴|キット|シリンジ"),
    "oral": re.compile("錠|カプセル|散$|顆粒|細粒|内服|シロップ|エキス|ドライ")}
_LEAST = 20  # names of a slot


def lexicon_notes(diseases: Sequence[str], drugs: Sequence[str], rows: int, seed: int,
                  questions: Mapping[str, Sequence[str]] = QUESTIONS) -> list[Item]:
    """Extraction items about notes with the names of the lists; half of the notes are in full-width characters.

    Args:
      diseases: findings and diseases, the commonest first.
      drugs: ingredients and products; the entities are these without dose, maker and salt.
      questions: tag (d, m-key or m-val) → questions that hold `{note}` and may hold `{kind}` (症例報告 or 看護記録).

    Raises:
      ValueError: lists that are too short, a question without `{note}`, an unknown tag.
    """
    for tag, texts in questions.items():
        if tag not in QUESTIONS or not texts or not all("{note}" in text for text in texts):
            raise ValueError(f"{len(texts)} questions have an unknown tag, or one of them no {{note}} where the note "
                             f"goes: the tags are {', '.join(QUESTIONS)}")
    rng = random.Random(f"{seed}-lexicon_notes")
    drawn, tags = notes(rng, _plain_names(diseases, drugs, seed), wide=0.5), tuple(questions)
    items = []
    for number, note in enumerate(itertools.islice(drawn, rows)):
        tag = tags[number % len(tags)]
        items.append(Item(f"lexicon_notes:{number}", ask(rng, note, tag, questions), note.entities[tag], tag=tag,
                          document=note.text))
    return items


def _plain_names(diseases: Sequence[str], drugs: Sequence[str], seed: int) -> dict[str, list[str]]:
    """The names that make plain entities: findings as they are, drugs without dose, maker and salt."""
    names: dict[str, list[str]] = {slot: [] for slot in ("s", "d", "oral", "injected", "topical")}
    for name in dict.fromkeys(diseases):
        if 2 <= len(name) <= 14 and OXYGEN not in name and not _NO_DISEASE.search(name):
            names["d" if _DISEASE_END.search(name) else "s"].append(name)
    bare = list(dict.fromkeys(_SALT.sub("", re.split(r"[「(\[]|\d", name)[0].strip()) for name in drugs))
    random.Random(seed).shuffle(bare)  # the lists don't say which drugs are common
    for name in bare:
        if not 3 <= len(name) <= 16 or _NO_DRUG.search(name) or name.count("・") > 1 or OXYGEN in name:
            continue
        form = next((slot for slot, pattern in _FORMS.items() if pattern.search(name)), None)
        for slot in [form] if form else ("oral", "injected"):  # an ingredient is given either way
            names[slot].append(name)
    for slot, listed in names.items():
        if len(listed) < _LEAST:
            raise ValueError(f"the lists of {len(diseases)} diseases and {len(drugs)} drugs hold {len(listed)} plain "
                             f"names for the slot {slot}: {_LEAST} of each of {', '.join(names)} are needed")
    return with_fixed(names)

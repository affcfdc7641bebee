"""What is asked of a textbook's writer: sections, readers and styles, the prompts for a language model, and the same
from the project's own tables for the generator that needs none.
"""

import dataclasses
import hashlib
import random
import re

from slm.corpus.lexicon import Entry
from slm.sample.corpus import POLITE_READERS
from slm.sample.items import exam_item
from slm.sample.notes import disease_values, drug_values
from slm.sample.phrases import groups, phrases, say
from slm.sample.tables import tables
from slm.text.normalize import normalize

TEMPLATE = 1  # raise it with any change of what is asked or generated: finished items of another version are redone

Slot = tuple[str, str, str]  # section, reader, style


@dataclasses.dataclass(frozen=True)
class Item:
    """One place of the plan."""
    topic: Entry
    slot: Slot


SECTIONS = {
    "disease": {
        "定義": "どのような疾患・病態かを、分類や類似した疾患との違いとともに説明する",
        "疫学": "どのような人に起こりやすいか、危険因子と背景を説明する",
        "病態": "原因から症状に至る仕組みを、順を追って説明する",
        "症状": "自覚症状と身体所見を、現れる順序や見分け方とともに説明する",
        "診断": "診察と検査の進め方、診断の根拠となる所見、鑑別すべき疾患を説明する",
        "治療": "治療の目標と選択肢、選び方の考え方、治療中の注意を説明する",
        "予後": "経過の見通し、合併症、経過観察で確かめることを説明する",
    },
    "drug": {
        "作用機序": "どこにどう働いて効果を示すか、どのような病気に使われるかを説明する",
        "用法・用量": "投与経路と使い方の考え方、調整が必要になる患者の条件を説明する。確かな数値だけを書き、"
                     "最終的には最新の添付文書を確認するよう添える",
        "副作用": "頻度の高い副作用と重い副作用、早く気づくための観察点と対応を説明する",
        "禁忌": "使ってはならない患者、慎重に使うべき患者と、その理由を説明する",
        "相互作用": "併用に注意すべき薬や食品と、その仕組み、対応を説明する",
    },
}
READERS = {
    "医学生": "医学を学ぶ学生。基礎医学の知識と結び付け、用語を定義してから使う",
    "研修医": "病棟と救急外来で働き始めた医師。実際の判断の順序と、見落としやすい点を重んじる",
    "看護師": "病棟や外来で働く看護師。観察の要点、患者への援助と説明、医師に報告すべき変化を重んじる",
    "薬剤師": "病院や薬局で働く薬剤師。薬物療法の根拠、確認すべき検査値、服薬指導の要点を重んじる",
    "患者と家族": "医学の知識がない人。専門用語を避けるか言い換え、不安をあおらず、受診や相談の目安を伝える",
}
STYLES = {
    "教科書": "教科書の一節。「である」調の整った文章で、段落に分けて書く",
    "講義": "講師が話す講義。「です・ます」調で、聞き手に語りかけながら書く",
    "問答": "一問一答。読者が抱く質問を3〜5個選び、行頭に「問：」と「答：」を付けて書く",
    "症例に沿った解説": "架空の症例を短く示し、その経過に沿って解説する。人名や施設名は書かない",
}
EXAM_STYLES = {
    "試験問題（知識）": "知識を問う五肢択一の問題",
    "試験問題（症例）": "架空の短い症例を読んで考える五肢択一の問題",
}
NO_EXAM = ("患者と家族",)


def slots(kind: str) -> list[Slot]:
    """All that can be asked about a disease or a drug."""
    return [(section, reader, style) for section in SECTIONS[kind] for reader in READERS
            for style in (*STYLES, *(() if reader in NO_EXAM else EXAM_STYLES))]


# Prompts ------------------------------------------------------------------------------------------------------

SYSTEM = """\
あなたは、日本語で医学の教材を書く経験豊かな執筆者です。次の決まりを必ず守ってください。
・広く認められた医学知識に基づいて正確に書く。確かでないことは書かない。
・有病率や生存率などの統計、薬の用量、検査の基準値、文献、ガイドラインの名称を作り出さない。数値に確信がないときは、数値を使わずに説明する。
・実在の人物や施設がわかる内容を書かない。
・普通の文章だけで書く。Markdownの記号（#、*、-、`など）、表、数式の記法、絵文字を使わない。
・前置き、あいさつ、書き終えたあとの補足や注釈を付けず、求められた本文だけを書く。
・題材の語が何を指すのか確信できないときは、「不明」とだけ書く。"""

PROSE = """\
{kind}「{term}」{code}の「{section}」について、教材の本文を書いてください。

内容：{content}。
読者：{audience}。
書き方：{manner}。
長さ：500〜900字。
本文では「{term}」という語をそのまま一度は使ってください。"""

EXAM = """\
{kind}「{term}」{code}の「{section}」について、試験問題を1問作ってください。

内容：{content}という観点から出題する。
受験者：{audience}。
形式：{manner}。正解は一つだけで、{letter}とする。ほかの選択肢は、もっともらしいが誤りとはっきり言えるものにする。
解説：正解に至る考え方を順に述べ、ほかの選択肢がなぜ誤りかをそれぞれ説明する。300〜600字。
問題文か解説では「{term}」という語をそのまま一度は使ってください。

次の形だけで書いてください。
問題：（問題文）
選択肢
a. （選択肢）
b. （選択肢）
c. （選択肢）
d. （選択肢）
e. （選択肢）
正解：（a〜eの一文字）
解説：（解説）"""


def messages(item: Item) -> list[dict[str, str]]:
    """The conversation that asks a model for one item."""
    topic, (section, reader, style) = item.topic, item.slot
    # Models have favourite letters: the right one is drawn for them, evenly.
    letter = "abcde"[hashlib.sha256("\n".join([topic.surface, *item.slot]).encode()).digest()[0] % 5]
    prompt = (EXAM if style in EXAM_STYLES else PROSE).format(
        kind="疾患・症候" if topic.kind == "disease" else "医薬品", term=topic.surface, section=section, letter=letter,
        code=f"（ICD-10：{topic.code}）" if re.match(r"[A-Z]\d\d", topic.code) and topic.kind == "disease" else "",
        content=SECTIONS[topic.kind][section], audience=READERS[reader], manner=(STYLES | EXAM_STYLES)[style])
    return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": prompt}]


_EXAM_LAYOUT = (r"\s*問題\s*:?(.+?)\n\s*選択肢\s*:?(.+?)"
                r"\n\s*正解\s*:?\s*[(]?[a-e][).。]?\s*\n\s*解説\s*:?(.+)")


def is_exam(text: str) -> bool:
    """Whether a text is an item in the layout of `EXAM`: question, five different choices, answer, explanation."""
    found = re.fullmatch(_EXAM_LAYOUT, normalize(text), flags=re.DOTALL)
    if not found or not found[1].strip() or not found[3].strip():
        return False
    choices = re.findall(r"^\s*[(]?([a-e])[).:、\s]\s*(\S.*)$", found[2], flags=re.MULTILINE)
    return [letter for letter, _ in choices] == list("abcde") and len({choice for _, choice in choices}) == 5


# The generator ------------------------------------------------------------------------------------------------

# What its tables can tell: it has no items by section, and no case by which to explain.
GENERATED_STYLES = ("教科書", "講義", "問答")
GENERATED_EXAM = ("総合", "医学生", "試験問題")
EXAMS = (*EXAM_STYLES, GENERATED_EXAM[-1])  # styles that keep to the layout of `EXAM`
_HEADINGS = {"用法・用量": "用法の考え方", "相互作用": "相互作用の注意"}
_MOST_DRAWS = 20_000


def generated_slots(kind: str) -> list[Slot]:
    """All that the generator can write about a disease or a drug."""
    readers = groups("readers") if kind == "disease" else ("医学生",)
    prose = [(section, reader, style) for section in SECTIONS[kind] for reader in readers for style in GENERATED_STYLES]
    return [*prose, GENERATED_EXAM]


def generate(item: Item, seed: int) -> str:
    """The text of an item about a disease or drug of the project's tables.

    Raises:
      ValueError: no examination item about it was found.
    """
    topic, (section, reader, style) = item.topic, item.slot
    rng = random.Random(f"{seed}-{topic.surface}-{section}-{reader}-{style}")
    if item.slot == GENERATED_EXAM:
        return _generated_exam(topic.surface, rng)
    kind = topic.kind
    if kind == "disease":
        row, draw = tables()["diseases"][topic.surface], disease_values
        opening, closing = phrases(f"readers.{reader}.opening"), phrases(f"readers.{reader}.closing")
    else:
        row, draw = tables()["drugs"][topic.surface], drug_values
        opening, closing = phrases("drug_openings"), phrases("drug_closings")
    polite = style == "講義" or reader in POLITE_READERS

    def passage(heading: str, more: int) -> str:
        values, chapter = draw(rng, row), f"{kind}_sections.{heading}"
        text = say(rng, phrases(f"{chapter}.opening"), values, 1, polite)
        text += say(rng, phrases(f"{chapter}.further"), values, more, polite)
        return f"問：{say(rng, phrases(f'{chapter}.question'), values)}\n答：{text}" if style == "問答" else text

    heading, introduction = _HEADINGS.get(section, section), groups(f"{kind}_sections")[0]
    values = draw(rng, row) | {"number": str(rng.randint(1, 60))}
    return "\n".join(filter(None, [
        f"{say(rng, phrases(f'{kind}_titles'), values)}　{section}", say(rng, opening, values, 1, polite),
        passage(introduction, 2) if heading != introduction else "", passage(heading, 4),
        say(rng, closing, values, 1, polite)]))


def _generated_exam(term: str, rng: random.Random) -> str:
    for _ in range(_MOST_DRAWS):
        item = exam_item(rng)
        if term in item.question or term == item.choices[item.answer]:
            choices = [f"{letter}. {text}" for letter, text in zip("abcde", item.choices)]
            return "\n".join([f"問題：{item.question}", "選択肢", *choices, f"正解：{'abcde'[item.answer]}",
                              f"解説：{item.explanation}"])
    raise ValueError(f"no examination item about {term} in {_MOST_DRAWS:,} draws: the tables hold too little of it")

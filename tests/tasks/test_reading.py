import hashlib
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slm.tasks import tables
from slm.tasks.reading import NONE, find_letter, read_letter, read_list
from slm.tasks.task import Item, without_system
from slm.text.chat import without_thoughts

GOLDEN = json.loads((Path(__file__).parents[1] / "golden/jmed_llm.json").read_text(encoding="utf-8"))
EXPRESSIONS = ["[*'ab']", "[x for x in 'ab']", "[0.1+0.2]"]  # the reference executes them; here they are unread


@pytest.mark.parametrize("output, letter", GOLDEN["letters"])
def test_letter_as_the_reference(output, letter):
    assert read_letter(output) == letter


@pytest.mark.parametrize("case", [case for case in GOLDEN["choice"] if "outputs" in case], ids=lambda case: case["id"])
def test_letters_of_whole_cases(case):
    assert [read_letter(output) for output in case["outputs"]] == [NONE if letter == "-" else letter
                                                                   for letter in case["read"]]


@pytest.mark.parametrize("output, entities, error", GOLDEN["lists"])
def test_list_as_the_reference(output, entities, error):
    """`error`: what its metrics raise later, on lists and dicts among the entities."""
    read, unread = read_list(output)
    if error or output in EXPRESSIONS:
        assert (read, unread) == ([], True)
    else:
        assert repr(read) == repr(entities)  # 1 is no True
        assert unread == (entities == [] and output != "[]")


@pytest.mark.parametrize("output, entities", [
    ("['発熱', \"Crohn's病\"]", ["発熱", "Crohn's病"]),
    ("[]", []),
    (r"['\d']", ["\\d"]),
    ("['a'] + ['b'] + ['c']", ["a", "b", "c"]),
    ("list(('a', 'b')) + ['c']", ["a", "b", "c"]),
    ("[-1, 2.5, None, True]", [-1, 2.5, None, True]),
])
def test_read(output, entities):
    assert read_list(output) == (entities, False)


@pytest.mark.parametrize("output", [
    "発熱", "'発熱'", "('発熱',)", "{'発熱'}", "['a'] + 'b'", "'b' + ['a']", "1 + 2", "['a'] - ['b']", "tuple(['a'])",
    "list('a', 'b')", "list(1)", "list(*['a'])", "list(x)", "x.list(['a'])", "[{[]: 1}]", "[['a']]", "[('a',)]", "[...]",
    "[b'a']", "[1j]", r"['\ud800']", "['\ud800']", "['\0']", "[0x" + "f" * 20_000 + "]", "[" + "1" * 20_000 + "]",
    "[" * 90_000, "[" * 45_000 + "]" * 45_000, "[" + "-" * 90_000 + "1]", "+".join(["[]"] * 30_000),
    "a" + ".a" * 40_000, "not " * 20_000 + "1", "['a'" + ", 'a'" * 1_000_000 + "]", "\ud800" * 2_000_000,
], ids=lambda output: ascii(output[:20]))
def test_unread(output):
    assert read_list(output) == ([], True)
    assert read_letter(output) in "ABCDEF" + NONE


def test_nothing_is_executed(tmp_path):
    target = tmp_path / "made"
    for output in (f"[open({str(target)!r}, 'w')]", f"list(open({str(target)!r}, 'w'))", f"[] + [open({str(target)!r}, 'w')]"):
        assert read_list(output) == ([], True)
    assert not target.exists()


@settings(deadline=None)
@given(st.lists(st.text() | st.integers() | st.none() | st.booleans()))
def test_what_was_written_is_read(entities):
    assert read_list(f" {entities!r}") == (entities, False)


@settings(deadline=None)
@given(st.text(st.characters()) | st.text("[]()'\", +*list-1a\\\n"))
def test_any_output_has_a_reading(output):
    entities, unread = read_list(output)
    assert not (unread and entities)
    json.dumps(entities, ensure_ascii=False).encode()
    {*entities}  # noqa: B018  they are hashable
    assert read_letter(output) in {*"ABCDEF", NONE}


def test_prompts_as_the_reference_has_them():
    for kind, prompt in (("choice", tables.choice_prompt), ("extraction", tables.extraction_prompt)):
        case = GOLDEN["prompts"][kind]
        messages = prompt(Item("x", case["question"], (), tuple(map(tuple, case.get("options", ())))))
        texts = [json.dumps(some, ensure_ascii=False, separators=(",", ":")) for some in (messages, without_system(messages))]
        assert [hashlib.sha256(text.encode()).hexdigest() for text in texts] == case["sha256"]


OPTIONS = (("A", "肺炎"), ("B", "心不全"), ("C", "喘息"), ("D", "気胸"))


@pytest.mark.parametrize("output, letter", [
    ("診断は明らかで、正解はCです。", "C"), ("Answer: C", "C"), ("C. 喘息", "C"), ("（Ｃ）", "C"), ("**C**", "C"),
    ("c", "C"), (r"\boxed{\text{C}}", "C"), ("選択肢Aは誤りで、正解はCである。", "C"), ("As a doctor, I choose C", "C"),
    ("A or C... C", "C"), ("BNP値とCTの所見からC", "C"), ("PEが疑われるのでC", "C"), ("A型ではなくBを選ぶ", "B"),
    ("Dだと思う。A型肝炎は否定的。", "D"), ("答えはAではなくDです", "D"), ("正解はAではない。Dである。", "D"),
    ("正解はD。Aは頻度が低い。", "D"), ("D。Aは頻度が低い。", "D"), ("A: 誤り\nB: 誤り\nC: 正しい\nD: 誤り", "C"),
    ("A. 肺炎は違う。\nD. 気胸が正しい。", "D"), ("喘息と考える", "C"), ("ビタミンB欠乏ではなくA", "A"),
    ("A patient with wheezing has asthma, so C", "C"), ("【正解】C", "C"), ("(c)", "C"), ("B、C、Dは誤りなのでA", "A"),
    ("Dが正しい。A、B、Cは誤り。", "D"), ("回答はDです。理由：Bは誤り、Cも誤り。", "D"),
    ("I would choose C because A is wrong.", "C"), ("分からない", NONE), ("", NONE), ("肺炎か心不全", NONE), ("ABC", NONE)])
def test_the_letter_is_found_that_a_person_would_find(output, letter):
    assert find_letter(output, OPTIONS) == letter


@pytest.mark.parametrize("output, answer", [
    ("<think>Aかもしれない</think>B", "B"), ("  <think>A\nB</think>\n C ", "C"), ("<think>no end in sight", ""),
    ("Aを考える。</think>\nB", "B"), ("A <think>", "A <think>")])
def test_thoughts_are_not_part_of_an_answer(output, answer):
    assert without_thoughts(output) == answer

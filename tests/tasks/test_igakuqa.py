import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slm.tasks import igakuqa
from slm.tasks.exam import Question
from slm.tasks.reading import is_right, read_exam_answer

CHOICES = ["架空熱", "仮想咳", "空想痛", "想定麻痺", "作り話疹"]


def problem(name, text="架空の病はどれか。", answer=("a",), choices=CHOICES, **more):
    return {"problem_id": name, "problem_text": text, "choices": list(choices), "text_only": True,
            "answer": list(answer), "points": "1"} | more


def facts(name, **more):
    return {"problem_id": name, "category": "架空科", "kinki": [], "reason": "", "human_accuracy": "50.5",
            "breakdown": []} | more


def lines(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) + "\n" for row in rows),
                    encoding="utf-8")


def section(folder, name, problems, metadata=None):
    path = folder / f"data/{int(name[:3]) + 1906}/{name}.jsonl"
    lines(path, problems)
    rows = [facts(row["problem_id"]) for row in problems if isinstance(row, dict)] if metadata is None else metadata
    lines(path.with_name(f"{name}_metadata.jsonl"), rows)


@pytest.fixture
def checkout(tmp_path):
    """Two years of one invented problem a section, and three invented examples."""
    for exam in (112, 113):
        for letter in "ABCDEF":
            section(tmp_path, f"{exam}-{letter}", [problem(f"{exam}{letter}1")])
    lines(tmp_path / "scripts/prompts/prompt.jsonl",
          [problem(f"100A{n}", f"作例{n}。", answer) for n, answer in ((1, "e"), (2, "ab"), (3, "c"))])
    return tmp_path


def test_prompt(checkout):
    section(checkout, "112-A", [problem("112A1", "作った問い。2つ選べ。", "bd")])
    task, _ = igakuqa.load(checkout)
    system, *examples, asked = task.prompt(task.items[0])
    assert system == {"role": "system", "content": "医師国家試験を解きます。"}
    choices = "a: 架空熱\nb: 仮想咳\nc: 空想痛\nd: 想定麻痺\ne: 作り話疹\n必ずa,b,c,d,eの中からちょうど"
    assert examples == [turn for n, count, answer in ((1, 1, "e"), (2, 2, "a,b"), (3, 1, "c")) for turn in (
        {"role": "user", "content": f"問題: 作例{n}。\n{choices}{count}個選んでください。\n答え:"},
        {"role": "assistant", "content": answer})]
    assert asked == {"role": "user", "content": f"問題: 作った問い。2つ選べ。\n{choices}2個選んでください。\n答え:"}
    assert task.reply(task.items[0]) == "b,d"
    assert (task.kind, task.name) == ("exam", "igakuqa")


def test_a_number_is_asked_without_instruction(checkout):
    section(checkout, "112-A", [problem("112A1", "架空指数を求めよ。", ["7.20"], [])])
    task, questions = igakuqa.load(checkout, shots=0)
    assert [turn["content"] for turn in task.prompt(task.items[0])] == ["医師国家試験を解きます。", "問題: 架空指数を求めよ。"]
    assert task.reply(task.items[0]) == "7.20"
    assert questions["112A1"].numeric and not questions["112B1"].numeric
    assert task.name == "igakuqa_0_shot"


def test_facts_of_a_problem(checkout):
    section(checkout, "113-B", [
        problem("113B1", answer="h", choices="一二三四五六七八", points="3", text_only=False), problem("113B2")],
        [facts("113B2", human_accuracy=""), facts("113B1", kinki=["cde", "ａ"], human_accuracy="98.7")])
    task, questions = igakuqa.load(checkout, "2019")
    assert questions["113B1"] == Question("113B1", ("h",), 3, False, "abcdefgh", "cdeａ", 98.7, "架空科")
    assert (questions["113B1"].year, questions["113B1"].section) == (2019, "113-B")
    assert questions["113B2"].human_accuracy is None
    assert [item.id for item in task.items] == list(questions) == ["113A1", "113B1", "113B2", "113C1", "113D1", "113E1", "113F1"]
    assert task.letters(task.items[1]) == tuple("abcdefgh") and task.items[1].answer == ("h",)


def test_text_only(checkout):
    section(checkout, "112-A", [problem("112A1", text_only=False), problem("112A2")])
    task, questions = igakuqa.load(checkout, text_only=True)
    assert "112A1" not in questions and "112A2" in questions and len(task.items) == len(questions) == 12
    assert task.name == "igakuqa_text_only"


@pytest.mark.parametrize("texts, documents", [
    (["一。", "次の文を読み、2、3の問いに答えよ。甲。", "二。", "次の文を読み、4〜6の問いに答えよ。乙。", "三。", "四。", "五。"], "1224447"),
    (["一。", "次の文を読み、2～3の問いに答えよ。甲。", "二。", "三。"], "1224"),
    (["次の文を読み、以下の問いに答えよ。甲。", "一。", "次の文を読み、以下の問いに答えよ。乙。", "二。", "数はいくつか。"], "11335"),
    (["一。", "次の文を読み、以下の問いに答えよ。甲。", "二。", "三。"], "1222"),
    (["次の文を読み、以下の問いに答えよ。", "一。", *["次の文を読み、以下の問いに答えよ。", "二。", "三。"] * 2, "四。"], "113336669"),
    (["一。", "二。次の文を読み、2、3の問いに答えよ、とある。", "三。"], "123"),
])
def test_questions_about_a_case_are_one_document(checkout, texts, documents):
    section(checkout, "112-C", [problem(f"112C{n}", text) for n, text in enumerate(texts, 1)])
    task, _ = igakuqa.load(checkout)
    found = {item.id: item.document for item in task.items}
    assert [found[f"112C{n}"] for n in range(1, len(texts) + 1)] == [f"112C{n}" for n in documents]
    assert found["112A1"] == "112A1"


@pytest.mark.parametrize("years, exams", [("all", {"112", "113"}), ("", {"112", "113"}), ("2018", {"112"}),
                                          ("2019, 2018", {"112", "113"})])
def test_years(checkout, years, exams):
    assert {name[:3] for name in igakuqa.load(checkout, years)[1]} == exams


@pytest.mark.parametrize("years, error, message", [
    ("2018,2021", FileNotFoundError, "has no year 2021, only 2018, 2019"),
    ("2018;2019", ValueError, "write all, or years with commas"),
])
def test_years_that_are_refused(checkout, years, error, message):
    with pytest.raises(error, match=message):
        igakuqa.load(checkout, years)


def test_missing_places_are_named(checkout):
    for path, message in (("data/2018/112-C.jsonl", "112-C.jsonl is missing"),
                          ("data/2018/112-D_metadata.jsonl", r"112-D_metadata.jsonl is missing.*\(kinki\).*unknown"),
                          ("scripts/prompts/prompt.jsonl", "prompt.jsonl is missing")):
        content = (checkout / path).read_bytes()
        (checkout / path).unlink()
        with pytest.raises(FileNotFoundError, match=message):
            igakuqa.load(checkout)
        (checkout / path).write_bytes(content)
    with pytest.raises(FileNotFoundError, match=r"elsewhere/data is missing: give the path of a checkout"):
        igakuqa.load(checkout / "elsewhere")
    (checkout / "empty/data").mkdir(parents=True)
    (checkout / "empty/scripts").symlink_to(checkout / "scripts")
    with pytest.raises(FileNotFoundError, match="has no year"):
        igakuqa.load(checkout / "empty")
    with pytest.raises(ValueError, match="shots is 2: give 0, or 3"):
        igakuqa.load(checkout, shots=2)
    lines(checkout / "scripts/prompts/prompt.jsonl", [problem("100A1")])
    with pytest.raises(ValueError, match="1 worked examples, published scores have 3"):
        igakuqa.load(checkout)


GOOD = problem("112A1")


@pytest.mark.parametrize("second, message", [
    ('{"problem_id": "112A2",\n', "line 2 is not JSON"),
    ("[" * 100_000 + "\n", "line 2 is not JSON"),
    ("[1]\n", "line 2 is not a JSON object"),
    (json.dumps(problem("112A2", "\ud800")) + "\n", "line 2 has half of a surrogate pair"),
    ({"problem_id": "112A2", "question": "架空。"}, "line 2 has no problem_text, choices, answer, text_only, points"),
    (problem("112A2", text_only="yes"), "line 2: text_only is a str, and should be a bool"),
    (problem("112A2", choices=[1, 2]), "line 2: choices is .* should be a list of strings"),
    (problem("112A2", points="many"), "line 2: the points of 4 characters are not a whole number"),
    (problem("112A2", answer=[]), "line 2: the answer has 0 parts, 0 of them unknown"),
    (problem("112A2", answer="A"), "line 2: the answer has 1 parts, 1 of them unknown"),
    (problem("112B2"), "line 2: the problem_id of 5 characters is not 112A and a number"),
    (problem("112A1"), "no other line has"),
    (problem("112A3"), "112-A_metadata.jsonl has no line of 112A3"),
])
def test_lines_that_are_refused(checkout, second, message):
    section(checkout, "112-A", [GOOD, second], [facts("112A1"), facts("112A2")])
    with pytest.raises(ValueError, match=message):
        igakuqa.load(checkout)


def test_files_that_are_refused(checkout):
    path = checkout / "data/2018/112-A.jsonl"
    path.write_bytes("架空".encode("cp932"))
    with pytest.raises(ValueError, match="is not UTF-8"):
        igakuqa.load(checkout)
    path.write_text("\n\n", encoding="utf-8")
    with pytest.raises(ValueError, match="is empty"):
        igakuqa.load(checkout)
    section(checkout, "112-A", [GOOD], [{"problem_id": "112A1", "kinki": []}])
    with pytest.raises(ValueError, match=r"_metadata.jsonl, line 1 has no category, human_accuracy"):
        igakuqa.load(checkout)


def test_line_separators_inside_a_text_do_not_end_a_line(checkout):
    section(checkout, "112-A", [problem("112A1", "架空\u2028の\u0085病。")])
    assert igakuqa.load(checkout)[0].items[0].question == "架空\u2028の\u0085病。"


@pytest.mark.parametrize("output, answer", [
    ("Ａ，Ｃ", "a,c"), ("a、b", "a､b"), (" a\n", " a\n"), ("７．２０", "7.20"), ("　", " "), ("ガーゼ。", "ｶﾞｰｾﾞ｡"), ("パヷヺ", "ﾊﾟヷヺ"),
    ("“ａ”", "“a\""), ("‘ａ’＂＇｀", "`a'＂＇｀"), ("漢字", "漢字"), ("～￥", "~¥"), ("", ""), ("Ÿ", "ÿ"),
])
def test_answers_are_read_as_the_reference_does(output, answer):
    """Each pair is what mojimoji.zen_to_han(output).lower() gives."""
    assert read_exam_answer(output) == answer


@given(st.text(st.characters()))
def test_reading_twice_changes_nothing(output):
    once = read_exam_answer(output)
    assert "．" not in once and read_exam_answer(once) == once.lower()


@pytest.mark.parametrize("name, prediction, answer, right", [
    ("112A1", "a", ["a"], True), ("112A1", "a,b", ["b", "a"], True), ("112A1", "b,a", ["a", "b"], True),
    ("112A1", "a, b", ["a", "b"], False), ("112A1", "A", ["a"], False), ("112A1", "a,a", ["a"], False),
    ("112A1", "a", ["a", "b"], False), ("112A1", "", ["a"], False), ("112A1", "a.", ["a"], False),
    ("113F84", "7.20", ["7.20"], True), ("113F84", "7.2", ["7.20"], False),
    ("116A71", "", ["e"], True), ("116A71", "架空", ["e"], True), ("116A7", "架空", ["e"], False),
    ("112B30", "a", ["a or d"], True), ("112B30", "d", ["a or d"], True), ("112B30", "a,d", ["a or d"], False),
    ("112B30", "a or d", ["a or d"], True), ("112B30", "e", ["a or d"], False), ("113B30", "a", ["a or d"], False),
])
def test_right_answers(name, prediction, answer, right):
    assert is_right(name, prediction, tuple(answer)) is right


def test_of_two_right_answers_one_is_the_reply(checkout):
    section(checkout, "112-B", [problem("112B30", answer=["a or d"])])
    task, questions = igakuqa.load(checkout, "2018")
    item = next(item for item in task.items if item.id == "112B30")
    assert item.answer == questions["112B30"].answer == ("a or d",) and task.reply(item) == "a"
    assert "ちょうど1個" in task.prompt(item)[-1]["content"]
    assert is_right(item.id, task.reply(item), item.answer)

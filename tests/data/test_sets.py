"""Which conversations fine-tuning may learn from; JMED-LLM is a miniature in its layout with invented rows."""

import collections
import csv
import json
import random
import re

import pytest

from slm.data import sets
from slm.data.conversations import is_held_out
from slm.data.sets import Access, SetConfig
from slm.model.presets import ModelConfig
from slm.sample import tasks as sample_tasks
from slm.tasks import jmed_llm, split
from slm.tasks.jmed_llm import FOLDS, SOURCES, JmedLlmConfig
from slm.train import sft
from slm.train.sft import SftConfig

OPTIONS = ("ある", "ない")


def document(name, length=40):
    """A text of kana, of which no other shares five in a row."""
    return "".join(random.Random(name).choices("あいうえおかきくけこさしすせそたちつてとなにぬねのはひふへほ", k=length))


def question(kind, name, asked="何"):
    if kind == "JCSTS":
        return f"以下の2つの文の意味の類似度は？\nS1: {document(name)}\nS2: {document(name + '-2')}"
    return f"以下の文において「{asked}」は？\n「{document(name)}」"


def table(path, kind, rows):
    """Rows of (question, tag); the answer is the first option, or the first five characters of the document."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        choice = kind == "choice"
        writer.writerow(["tag", "question", *(["optionA", "optionB"] if choice else []), "answer"])
        for asked, tag in rows:
            found = re.search(r"\n「(.*)」", asked)
            writer.writerow([tag, asked, *(OPTIONS if choice else []), "A" if choice else repr([found[1][:5]])])


# Of each full set: (document, tag) of the rows, the first of which is the test's.
FULL = {
    "JMMLU-Med": ("choice", [("jmmlu-test", ""), ("jmmlu-1", ""), ("jmmlu-2", ""), ("jmmlu-3", "")]),
    # crner-test is a document of another task's test, smdis-test of one that is not trained together with CRADE.
    "CRADE": ("choice", [("crade-test", ""), ("crade-test", ""), ("crner-test", ""), ("smdis-test", ""),
                         ("shared", ""), ("crade-1", ""), ("crade-2", ""), ("crade-3", "")]),
    "RRTNM": ("choice", [("rrtnm-test", ""), ("rrtnm-1", ""), ("rrtnm-2", ""), ("rrtnm-3", "")]),
    "SMDIS": ("choice", [("smdis-test", ""), ("smdis-test", ""), ("smdis-1", ""), ("smdis-2", ""), ("smdis-3", "")]),
    "JCSTS": ("choice", [("jcsts-test", ""), ("jcsts-1", ""), ("jcsts-2", ""), ("jcsts-3", "")]),
    "CRNER": ("extraction", [("crner-test", "d"), ("crner-test", "m-key"), ("shared", "d"), ("shared", "m-val"),
                             ("shared", "other"), ("crner-1", "d"), ("crner-2", "m-key"), ("crner-3", "d")]),
    "RRNER": ("extraction", [("rrner-test", "m-key"), ("rrner-1", "d"), ("rrner-2", "m-val"), ("rrner-3", "d")]),
    "NRNER": ("extraction", [("nrner-test", ""), ("nrner-1", ""), ("nrner-2", ""), ("crade-test", "")]),
}
TESTS = {"jmmlu_med": ["JMMLU-Med"], "crade": ["CRADE"], "rrtnm": ["RRTNM"], "smdis": ["SMDIS"], "jcsts": ["JCSTS"],
         "mrner_disease": ["CRNER"], "mrner_medicine": ["RRNER"], "nrner": ["NRNER"]}
# What is left of each task under P2, by hand.
LEFT = {"jmmlu_med": ["jmmlu-1", "jmmlu-2", "jmmlu-3"], "crade": ["shared", "crade-1", "crade-2", "crade-3"],
        "rrtnm": ["rrtnm-1", "rrtnm-2", "rrtnm-3"], "smdis": ["smdis-1", "smdis-2", "smdis-3"],
        "jcsts": ["jcsts-1", "jcsts-2", "jcsts-3"], "mrner_disease": ["shared", "crner-1", "crner-3", "rrner-1", "rrner-3"],
        "mrner_medicine": ["shared", "crner-2", "rrner-2"], "nrner": ["nrner-1", "nrner-2"]}
TEST_DOCUMENTS = [document(f"{name}-test") for name in (
    "jmmlu", "crade", "rrtnm", "smdis", "jcsts", "crner", "rrner", "nrner")] + [document("jcsts-test-2")]


@pytest.fixture(scope="module")
def jmed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("JMED-LLM")
    asked = {name: [(question(name, own, f"問{number}"), tag) for number, (own, tag) in enumerate(rows)]
             for name, (_, rows) in FULL.items()}
    for name, (kind, _) in FULL.items():
        table(folder / "datasets" / "all" / f"{name}.csv", kind, asked[name])
    for task, names in TESTS.items():
        table(folder / "datasets" / f"{task}.csv", SOURCES[task].kind, [asked[name][0] for name in names])
    return folder


def benchmarks(folder="", protocol="P2", fold=None):
    return Access(jmed_llm=JmedLlmConfig(str(folder)), protocol=protocol, fold=fold)


def config(folder="", *own, **settings):
    return SftConfig(sets=own, jmed_llm=JmedLlmConfig(str(folder)), **settings)


def talk(*turns):
    return [{"role": role, "content": content} for role, content in zip(("user", "assistant") * 9, turns)]


def write(path, talks):
    path.write_text("".join(json.dumps({"messages": own}, ensure_ascii=False) + "\n" for own in talks))
    return path


# Kinds --------------------------------------------------------------------------------------------------------

def test_messages_and_alpaca(tmp_path):
    talks = [talk("熱は？", "38℃"), talk("咳は？", "なし", "では？", "肺炎")]
    one, two = write(tmp_path / "1.jsonl", talks), write(tmp_path / "2.jsonl", talks[:1])
    read = sets.read(SetConfig("own", "messages", f"{one},{two}"), benchmarks(), 0)
    assert [entry.messages for entry in read] == [*talks, talks[0]]
    assert [entry.location for entry in read] == [f"{one}, conversation 0", f"{one}, conversation 1",
                                               f"{two}, conversation 0"]
    assert [entry.group for entry in read] == ["熱は？", "咳は？\nでは？", "熱は？"]
    assert sets.read(SetConfig("own", "messages", f"{tmp_path}/*.jsonl"), benchmarks(), 0) == read

    (tmp_path / "alpaca.jsonl").write_text('{"instruction": "答えよ", "input": "熱は？", "output": "38℃"}\n')
    entry, = sets.read(SetConfig("own", "alpaca", f"{tmp_path}/alpaca.jsonl"), benchmarks(), 0)
    assert entry.messages == talk("答えよ\n\n熱は？", "38℃") and entry.group == "答えよ\n\n熱は？"


def test_tables_of_ones_own(tmp_path):
    table(tmp_path / "choice.csv", "choice", [("熱は？", ""), ("咳は？\n「発熱 なし」", ""), ("熱は？\n「発熱なし」", "")])
    read = sets.read(SetConfig("own", "choice", f"{tmp_path}/choice.csv"), benchmarks(), 0)
    assert [entry.location for entry in read] == ["choice:0", "choice:1", "choice:2"]
    assert [entry.group for entry in read] == ["熱は?", "発熱なし", "発熱なし"]  # two questions about one text
    assert [turn["role"] for turn in read[0].messages] == ["system", "user", "assistant"]
    assert "熱は？" in read[0].messages[1]["content"] and "B. ない" in read[0].messages[1]["content"]
    assert read[0].messages[2]["content"] == "A"

    table(tmp_path / "extraction.csv", "extraction", [(question("", "x"), "")])
    entry, = sets.read(SetConfig("own", "extraction", f"{tmp_path}/extraction.csv"), benchmarks(), 0)
    assert entry.messages[2]["content"] == repr([document("x")[:5]]) and split.document(entry.messages[1]["content"]) == entry.group


def test_the_sample_is_of_its_seed():
    one, again, other = (sets.read(SetConfig("sample", "sample"), benchmarks(), seed) for seed in (0, 0, 1))
    assert one == again != other
    assert len(one) == sum(len(task.items) for task in sample_tasks.training(0).values())
    tests = {item.document for task in sample_tasks.tasks(0).values() for item in task.items}
    assert tests.isdisjoint(entry.group for entry in one)


def test_a_limit_is_spread_over_the_set(tmp_path):
    path = write(tmp_path / "own.jsonl", [talk(f"問{number}", "答") for number in range(10)])

    def numbers(limit):
        read = sets.read(SetConfig("own", "messages", str(path), limit=limit), benchmarks(), 0)
        return [int(entry.group[1:]) for entry in read]
    assert numbers(5) == [0, 2, 4, 6, 8] and numbers(3) == [0, 3, 6] and numbers(9) == list(range(9))
    assert numbers(0) == numbers(10) == numbers(11) == list(range(10))


@pytest.mark.parametrize("settings, message", [
    (dict(kind="messages"), "sets.own is of kind messages and has files='': name its files"),
    (dict(kind="jmed_llm", files="x"), "of kind jmed_llm and has files='x': the benchmark's settings say where it is"),
    (dict(kind="sample", weight=0.0), "sets.own has weight=0.0 and limit=0: a weight is above 0"),
    (dict(kind="sample", limit=-1), "sets.own has weight=1.0 and limit=-1"),
])
def test_settings_that_do_not_fit_are_refused(settings, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        SetConfig("own", **settings)


def test_what_is_not_there_is_named(tmp_path, jmed):
    with pytest.raises(FileNotFoundError, match=r"no file matches '.*nowhere\.jsonl'"):
        sets.read(SetConfig("own", "messages", f"{tmp_path}/nowhere.jsonl"), benchmarks(), 0)
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(ValueError, match=r"sets\.own has no conversation under protocol=P2: leave it out"):
        sets.read(SetConfig("own", "messages", f"{tmp_path}/empty.jsonl"), benchmarks(), 0)
    with pytest.raises(ValueError, match="JMED-LLM has no task 'own': its tasks are jmmlu_med, crade, "):
        sets.read(SetConfig("own", "jmed_llm"), benchmarks(jmed), 0)
    with pytest.raises(FileNotFoundError, match=r"nowhere/datasets/all/CRADE\.csv is missing: give the path"):
        sets.read(SetConfig("crade", "jmed_llm"), benchmarks(tmp_path / "nowhere"), 0)


# Benchmarks ---------------------------------------------------------------------------------------------------

def in_full(task):
    """{id: document} of the rows of `datasets/all` that a task has, by hand."""
    source = SOURCES[task]
    return {f"{name}:{row}": own for name in source.sets for row, (own, tag) in enumerate(FULL[name][1])
            if not source.tags or tag in source.tags}


@pytest.mark.parametrize("task", SOURCES)
def test_p2_leaves_no_document_of_any_test(jmed, task):
    read = sets.read(SetConfig(task, "jmed_llm"), benchmarks(jmed), 0)
    assert [in_full(task)[entry.location] for entry in read] == LEFT[task]
    text = json.dumps([entry.messages for entry in read], ensure_ascii=False)
    assert not any(test in text for test in TEST_DOCUMENTS)
    sets.refuse_leaks(read, benchmarks(jmed))


@pytest.mark.parametrize("task", SOURCES)
def test_p1_leaves_out_the_test_rows_alone(jmed, task):
    read = sets.read(SetConfig(task, "jmed_llm"), benchmarks(jmed, "P1"), 0)
    assert [entry.location for entry in read] == [place for place in in_full(task) if not place.endswith(":0")]


def test_cross_validation_scores_each_row_once_by_a_model_that_has_not_seen_it(jmed):
    scored, seen_by = collections.Counter(), {}
    for fold in range(FOLDS):
        learned = {task: jmed_llm.training(jmed, task, "CV", fold).items for task in SOURCES}
        questions = "\n".join(item.question for items in learned.values() for item in items)
        for task in SOURCES:
            for item in jmed_llm.fold(jmed, task, fold).items:
                scored[task, item.id] += 1
                assert jmed_llm.fold_of(item) == fold
                assert item.id not in {own.id for own in learned[task]}
                # … nor its document, in whatever task
                assert split._PAIR.search(item.question) or item.question.split("\n「")[1][:-1] not in questions
            seen_by[task] = seen_by.get(task, 0) + len(learned[task])
    everything = {(task, place) for task in SOURCES for place in in_full(task)}
    assert set(scored) == everything == {(task, item.id) for task in SOURCES
                                         for item in jmed_llm.fold(jmed, task).items}
    assert set(scored.values()) == {1}
    # Documents that no other task has are learned in all four other folds.
    assert all(seen_by[task] == 4 * len(in_full(task)) for task in ("jmmlu_med", "rrtnm", "jcsts"))


def test_a_document_is_held_out_whole(jmed):
    places = collections.defaultdict(set)
    for task in ("crade", "mrner_disease", "mrner_medicine"):
        for entry in sets.read(SetConfig(task, "jmed_llm"), benchmarks(jmed, "P1"), 0):
            places[in_full(task)[entry.location]].add(entry.group)
    assert all(len(groups) == 1 for groups in places.values())  # questions differ, the document does not
    assert len(set.union(*places.values())) == len(places)
    share = next(share / 50 for share in range(1, 50) if is_held_out(next(iter(places["shared"])), share / 50))
    assert not is_held_out(next(iter(places["shared"])), share - 0.02)


# Leaks --------------------------------------------------------------------------------------------------------

PLANTED = {
    "question": talk(question("CRADE", "crade-test", "別"), "はい"),
    "answer": talk("一つ書いて", document("crade-test")),
    "inside": talk("次を要約せよ。\n" + document("before", 100) + document("crade-test") + document("after", 100), "はい"),
    "late": talk("熱は？", "38℃", "次は？", "どうぞ", document("crade-test"), "はい"),
    "spaced": talk(" \n".join(document("crade-test")), "はい"),
    "most of it": talk(document("crade-test")[:30], "はい"),
}


@pytest.fixture
def own(tmp_path):
    def make(*planted):
        talks = [talk(document(f"own-{number}"), "はい") for number in range(20)]
        return write(tmp_path / "own.jsonl", [*talks, *planted])
    return make


@pytest.mark.parametrize("planted", PLANTED.values(), ids=PLANTED)
def test_a_planted_document_is_refused(jmed, products, own, planted):
    path = own(planted)
    message = (rf"training conversations hold test documents of JMED-LLM: {re.escape(str(path))}, conversation 20 holds "
               r"the document of crade row 0.*Remove them, or set protocol=P1, which every leaderboard then shows")
    asked = SetConfig("own", "messages", str(path))
    with pytest.raises(ValueError, match=message):
        sets.refuse_leaks(sets.read(asked, benchmarks(jmed), 0), benchmarks(jmed))
    with pytest.raises(ValueError, match=message):
        sft.pack(config(jmed, asked), products, ModelConfig(), None, 128)


def test_five_are_named_and_all_are_counted(jmed, own):
    asked = SetConfig("own", "messages", str(own(*PLANTED.values(), talk(question("", "nrner-test"), "はい"))))
    with pytest.raises(ValueError, match=r"^\d+ training conversations") as caught:
        sets.refuse_leaks(sets.read(asked, benchmarks(jmed), 0), benchmarks(jmed))
    assert str(caught.value).startswith("7 training conversations") and str(caught.value).count("holds the document") == 5
    assert " …. Remove them" in str(caught.value)


def test_under_p1_nothing_is_refused(jmed, products, own):
    asked = SetConfig("own", "messages", str(own(*PLANTED.values())))
    sets.refuse_leaks(sets.read(asked, benchmarks(jmed, "P1"), 0), benchmarks(jmed, "P1"))
    packed = sft.pack(config(jmed, asked, protocol="P1", validation_share=0.3), products, ModelConfig(), None, 256).rows
    assert sum(part["own"].conversations for part in packed.values()) == 20 + len(PLANTED)


def test_what_does_not_leak_passes(jmed, products, own):
    # Stock phrases, half of the question, a fourth of a document: anyone may write these.
    asked = SetConfig("own", "messages", str(own(
        talk("以下の文において「何」は？\nA. ある\nB. ない", "A"), talk(document("crade-test")[:12], "はい"))))
    packed = sft.pack(config(jmed, asked, validation_share=0.3), products, ModelConfig(), None, 128).rows
    assert sum(part["own"].conversations for part in packed.values()) == 22


def test_of_cross_validation_the_documents_of_the_own_fold_leak(jmed, own):
    # The answer of rows that are in no test: under CV they are scored, too.
    item, = (item for item in jmed_llm.fold(jmed, "rrtnm").items if item.id == "RRTNM:1")
    entries = sets.read(SetConfig("own", "messages", str(own(talk(item.question, "A")))), benchmarks(jmed), 0)
    sets.refuse_leaks(entries, benchmarks(jmed))
    for fold in range(FOLDS):
        if fold == jmed_llm.fold_of(item):
            with pytest.raises(ValueError, match="conversation 20 holds the document of rrtnm row 0"):
                sets.refuse_leaks(entries, benchmarks(jmed, "CV", fold))
        else:
            sets.refuse_leaks(entries, benchmarks(jmed, "CV", fold))


def test_the_benchmark_is_not_asked_for_where_it_is_not_used(products, own, monkeypatch):
    monkeypatch.setattr(jmed_llm.download, "jmed_llm", lambda folder: pytest.fail("it was downloaded"))
    asked = SetConfig("own", "messages", str(own()))
    packed = sft.pack(config("", asked, validation_share=0.3), products, ModelConfig(), None, 128).rows
    assert set(packed) == {"train", "validation"} and set(packed["train"]) == {"own"}


@pytest.mark.parametrize("protocol", ["P1", "P2"])
def test_all_tasks_are_packed_together(jmed, products, protocol):
    own = tuple(SetConfig(task, "jmed_llm") for task in SOURCES)
    packed = sft.pack(config(jmed, *own, protocol=protocol, validation_share=0.2), products, ModelConfig(), None, 256).rows
    counts = collections.Counter()
    for part in packed.values():
        counts.update({name: rows.conversations for name, rows in part.items()})
    expected = {task: len(LEFT[task]) if protocol == "P2" else sum(not place.endswith(":0") for place in in_full(task))
                for task in SOURCES}
    assert counts == expected and set(packed["train"]) == set(SOURCES)


@pytest.mark.parametrize("share, message", [
    (0.999999, r"all 20 conversations of sets\.own are held out: give more of them, or less than validation_share="),
    (1e-9, r"validation_share=1e-09 holds out no conversation of so few: raise it")])
def test_nothing_left_to_learn_or_to_validate_on_is_refused(products, own, share, message):
    with pytest.raises(ValueError, match=message):
        asked = SetConfig("own", "messages", str(own()))
        sft.pack(config("", asked, validation_share=share), products, ModelConfig(), None, 128)


def test_two_sets_of_one_name_are_refused_or_both_learned(products, own, tmp_path):
    path = tmp_path / "alpaca.jsonl"
    path.write_text("".join(json.dumps({"instruction": document(str(number)), "output": "はい"}) + "\n"
                            for number in range(20)))
    asked = SetConfig("own", "messages", str(own())), SetConfig("own", "alpaca", str(path))
    try:
        packed = sft.pack(config("", *asked, validation_share=0.3), products, ModelConfig(), None, 128).rows
    except ValueError as error:
        assert "own" in str(error)
    else:
        assert sum(rows.conversations for part in packed.values() for rows in part.values()) == 40


def test_empty_answers_are_left_out_and_counted(tmp_path, capsys):
    path = tmp_path / "rows.jsonl"
    answers = ["38.5℃です。", "", " \u3000\n", "ない。"]
    path.write_text("".join(json.dumps({"instruction": f"熱は？{n}", "output": answer}) + "\n"
                            for n, answer in enumerate(answers)))
    entries = sets.read(SetConfig("rows", "alpaca", str(path)), Access(), seed=0)
    assert [entry.messages[-1]["content"] for entry in entries] == ["38.5℃です。", "ない。"]
    assert "sets.rows: left out 2 of 4 conversations, whose answer is empty" in capsys.readouterr().err
    path.write_text(json.dumps({"instruction": "熱は？", "output": ""}) + "\n")
    with pytest.raises(ValueError, match=r"sets\.rows has no answer to learn from: of 1 "):
        sets.read(SetConfig("rows", "alpaca", str(path)), Access(), seed=0)


def test_short_questions_are_a_share_of_a_task_and_keep_their_answers(jmed):
    def users(short):
        entries = sets.read(SetConfig("nrner", "jmed_llm", short=short), benchmarks(jmed), 0)
        assert all(entry.messages[-1]["content"] == entry.task.reply(entry.item) for entry in entries)
        return [[message["role"] for message in entry.messages] for entry in entries]
    assert set(map(tuple, users(1.0))) == {("user", "assistant")}
    assert set(map(tuple, users(0.0))) == {("system", "user", "assistant")}
    tagged, = (entry for entry in sets.read(SetConfig("mrner_disease", "jmed_llm", short=1.0), benchmarks(jmed), 0)
               if entry.item.document == split.document(question("CRNER", "crner-3")))
    assert tagged.messages[0]["content"] == f"d「{document('crner-3')}」"
    with pytest.raises(ValueError, match=r"sets.own.short=2: give a share from 0 to 1"):
        SetConfig("own", "choice", "a.csv", short=2)

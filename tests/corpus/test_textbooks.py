import asyncio
import collections
import dataclasses
import json
import random
import re
import runpy
import socket
from pathlib import Path

import pytest

from slm import config as configs
from slm.corpus import sources, textbook_gates, textbooks
from slm.corpus import textbook_prompts as prompts
from slm.corpus.lexicon import Entry
from slm.corpus.textbook_prompts import Item
from slm.corpus.textbooks import GatesConfig, TextbooksConfig

try:
    import httpx2 as httpx
except ImportError:  # openai before its version 3
    import httpx

EXAM = "問題：{}はどれか。\n選択肢\na. い\nb. ろ\nc. は\nd. に\ne. ほ\n正解：c\n解説：{}"


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(*_):
        raise AssertionError("a socket was opened")
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.delenv("SLM_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


@pytest.fixture
def config(tmp_path):
    (tmp_path / "diseases.txt").write_text("市中肺炎\n2型糖尿病\n気管支喘息\n", encoding="utf-8")
    (tmp_path / "drugs.txt").write_text("アスピリン\nアスピリン錠100mg「あ」\n", encoding="utf-8")
    return TextbooksConfig(lexicons=f"{tmp_path}/diseases.txt@CC BY 4.0,{tmp_path}/drugs.txt", size=40, backend="openai",
                           base_url="http://nowhere.invalid/v1", model="writer", retries=0, concurrency=4)


def compose(prompt):
    """A text of its own for each prompt, which passes every gate."""
    term, rng = re.search("「(.+?)」", prompt)[1], random.Random(prompt)
    text = term + "".join(chr(rng.randint(0x4E00, 0x9000)) for _ in range(300))
    return EXAM.format(term, text) if "試験問題を1問" in prompt else text


def completion(text, finish="stop", tokens=100):
    return {"id": "x", "object": "chat.completion", "created": 0, "model": "writer",
            "choices": [{"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": text}}],
            "usage": {"prompt_tokens": 1, "completion_tokens": tokens, "total_tokens": tokens + 1}}


class Server:
    """A chat endpoint in this process: keeps what it was asked, answers with `answer(prompt)`."""

    def __init__(self, answer=lambda prompt: completion(compose(prompt)), delay=lambda prompt: 0.0):
        self.answer, self.delay, self.requests, self.prompts, self.active, self.most = answer, delay, [], [], 0, 0

    async def __call__(self, request):
        body = json.loads(request.content)
        self.requests.append((request, body))
        prompt = body["messages"][-1]["content"]
        self.prompts.append(prompt)
        self.active += 1
        self.most = max(self.most, self.active)
        await asyncio.sleep(self.delay(prompt))
        self.active -= 1
        answer = self.answer(prompt)
        return answer if isinstance(answer, httpx.Response) else httpx.Response(200, json=answer)

    def run(self, config, workdir):
        return textbooks.run(config, workdir, http_client=httpx.AsyncClient(transport=httpx.MockTransport(self)))


def lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


# The plan


ENTRIES = [Entry(f"病{i}", "disease") for i in range(50)] + [Entry(f"薬{i}", "drug") for i in range(30)]


def test_the_plan_is_the_same_each_time_and_a_longer_one_begins_with_the_shorter():
    settings = TextbooksConfig(backend="openai", size=200)
    plan = list(textbooks.plan(settings, ENTRIES))
    assert plan == list(textbooks.plan(settings, ENTRIES)) and len(plan) == 200
    assert list(textbooks.plan(dataclasses.replace(settings, size=90), ENTRIES)) == plan[:90]
    assert list(textbooks.plan(dataclasses.replace(settings, seed=1), ENTRIES)) != plan


def test_a_small_batch_covers_many_terms_and_all_sections_evenly():
    first = list(textbooks.plan(TextbooksConfig(backend="openai", size=80), ENTRIES))
    assert sorted(item.topic.surface for item in first) == sorted(entry.surface for entry in ENTRIES)
    sections = collections.Counter(item.slot[0] for item in first)
    assert all(5 <= sections[section] <= 9 for section in prompts.SECTIONS["disease"])  # 50 / 7
    assert all(4 <= sections[section] <= 8 for section in prompts.SECTIONS["drug"])  # 30 / 5


def test_the_whole_plan_is_the_product():
    settings, entries = TextbooksConfig(backend="openai", size=0), [*ENTRIES[:2], ENTRIES[-1]]
    # Sections by (five readers in four styles, and four of them in two kinds of examination): 7 · 28, 5 · 28.
    assert textbooks.planned(settings, entries) == 2 * 196 + 140
    plan = list(textbooks.plan(settings, entries))
    assert len(plan) == len(set(plan)) == 532
    assert {item.slot for item in plan if item.topic.kind == "drug"} == set(prompts.slots("drug"))


def test_topics_are_diseases_and_drugs_without_dose_and_maker(config, tmp_path):
    topics = textbooks.topics(config)
    assert [entry.surface for entry in topics] == ["市中肺炎", "2型糖尿病", "気管支喘息", "アスピリン", "アスピリン錠"]
    assert (topics[0].source, topics[0].license, topics[3].license) == ("diseases", "CC BY 4.0", "unknown")
    (tmp_path / "words.txt").write_text("頭部\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"hold no disease and no drug among 1 entries: name a plain list diseases\.txt"):
        textbooks.topics(dataclasses.replace(config, lexicons=f"{tmp_path}/words.txt"))


def test_prompts_name_term_section_and_reader_and_spread_the_right_letters():
    topic = Entry("市中肺炎", "disease", code="J18")
    system, user = prompts.messages(Item(topic, ("診断", "研修医", "講義")))
    assert "Markdown" in system["content"] and "用量" in system["content"]
    assert "「市中肺炎」（ICD-10：J18）の「診断」" in user["content"] and "救急外来" in user["content"]
    asked = [prompts.messages(Item(topic, slot))[1]["content"] for slot in prompts.slots("disease")]
    assert len(set(asked)) == 196
    letters = collections.Counter(re.search("一つだけで、(.)とする", text)[1] for text in asked if "試験問題を1問" in text)
    assert sorted(letters) == list("abcde") and max(letters.values()) < 25  # of 56


# The endpoint


def test_items_carry_where_they_come_from(config, tmp_path, monkeypatch):
    monkeypatch.setenv("SLM_API_KEY", "secret")
    server = Server()
    report = server.run(dataclasses.replace(config, api_key_variable="SLM_API_KEY"), tmp_path / "run")
    items = lines(tmp_path / "run" / "items.jsonl")
    assert len(items) == len(server.prompts) == len(set(server.prompts)) == 40
    request, body = server.requests[0]
    assert str(request.url) == "http://nowhere.invalid/v1/chat/completions"
    assert request.headers["authorization"] == "Bearer secret"
    assert (body["model"], body["temperature"], body["max_tokens"], body["seed"]) == ("writer", 0.8, 2000, 0)
    item = next(item for item in items if item["term"] == "市中肺炎")
    assert (item["kind"], item["term_source"], item["term_license"]) == ("disease", "diseases", "CC BY 4.0")
    assert item["sampling"] == {"temperature": 0.8, "max_tokens": 2000, "seed": 0} and item["template"] == prompts.TEMPLATE
    assert item["synthetic"] is True and item["verification"] == "not clinically verified"
    assert (report["planned"], report["written"], report["failed"], report["accepted"]) == (40, 40, 0, 40)
    assert (report["tokens"], report["counted_in"]) == (4000, "tokens")
    assert (report["terms"], report["terms_covered"], report["contamination_checked"]) == (5, 5, False)
    saved = json.loads((tmp_path / "run" / "report.json").read_text(encoding="utf-8"))
    assert report == {**saved, "documents": str(tmp_path / "run" / "documents.jsonl")}
    assert "secret" not in "".join(path.read_text(encoding="utf-8") for path in (tmp_path / "run").iterdir())


def test_documents_are_a_source_of_the_corpus(config, tmp_path):
    Server().run(dataclasses.replace(config, license="MIT"), tmp_path / "run")
    documents = list(sources.read(tmp_path / "run" / "documents.jsonl"))
    assert len(documents) == 40 and {(d.source, d.license, d.url) for d in documents} == {("textbooks", "MIT", "")}
    assert all(document.text.startswith(textbooks.NOTICE + "\n") for document in documents)


def test_thoughts_are_no_part_of_the_text_and_a_cut_answer_is_no_document(config, tmp_path):
    one = dataclasses.replace(config, size=2)
    Server(lambda prompt: completion(f"<think>えっと\nうん</think>\n{compose(prompt)}")).run(one, tmp_path / "a")
    assert not any("うん" in item["text"] for item in lines(tmp_path / "a" / "items.jsonl"))
    report = Server(lambda prompt: completion(compose(prompt), finish="length")).run(one, tmp_path / "b")
    assert report["pass_rates"]["form"] == 0 and report["accepted"] == 0


def test_a_killed_run_goes_on_to_the_same_items(config, tmp_path):
    whole, first, second = Server(), Server(), Server()
    whole.run(config, tmp_path / "whole")
    first.run(dataclasses.replace(config, size=15), tmp_path / "killed")
    path = tmp_path / "killed" / "items.jsonl"
    content = path.read_bytes()
    last = content.splitlines(keepends=True)[-1]
    path.write_bytes(content[:-len(last) // 2])  # kill -9 in the middle of a line, and of a character
    report = second.run(config, tmp_path / "killed")
    assert report["written"] == len(second.prompts) == 40 - 14
    assert len(set(first.prompts) & set(second.prompts)) == 1  # the torn one
    assert set(path.read_bytes().splitlines()) == set((tmp_path / "whole" / "items.jsonl").read_bytes().splitlines())
    for name in ("gates.jsonl", "documents.jsonl"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    again = Server()
    assert again.run(config, tmp_path / "killed")["written"] == 0 and not again.prompts


def test_other_settings_are_asked_anew_and_a_broken_line_inside_is_named(config, tmp_path):
    Server().run(config, tmp_path / "run")
    warmer = Server()
    warmer.run(dataclasses.replace(config, temperature=1.0), tmp_path / "run")
    assert len(warmer.prompts) == 40
    path = tmp_path / "run" / "items.jsonl"
    path.write_bytes(path.read_bytes().replace(b"{", b"", 1))
    with pytest.raises(ValueError, match=r"items\.jsonl, line 1 is not an item, and not the last line: remove it"):
        Server().run(config, tmp_path / "run")


def test_failures_are_kept_aside_and_tried_again(config, tmp_path):
    no_choices, no_text = completion("x") | {"choices": []}, completion(None)
    bad = [httpx.Response(500, json={"error": {"message": "out of memory"}}), httpx.Response(200, text="{cut"),
           httpx.Response(200, text="<html>", headers={"content-type": "text/html"}),
           httpx.Response(200, text="[]", headers={"content-type": "application/json"}), no_choices, no_text,
           completion(" \n"), completion("\ud800")]
    answers = iter(bad)
    first, second = Server(lambda prompt: next(answers, completion(compose(prompt)))), Server()
    report = first.run(config, tmp_path / "run")
    failed = lines(tmp_path / "run" / "failures.jsonl")
    assert (report["written"], report["failed"], len(failed)) == (32, 8, 8)
    assert failed[0]["error"] == "InternalServerError" and "out of memory" not in json.dumps(failed)
    assert sum(failure["error"] == "Empty" for failure in failed) == 2
    done = {item["key"] for item in lines(tmp_path / "run" / "items.jsonl")}
    assert not done & {failure["key"] for failure in failed}
    report = second.run(config, tmp_path / "run")
    assert (report["written"], report["failed"], report["finished"]) == (8, 0, 40)
    assert lines(tmp_path / "run" / "failures.jsonl") == []


def test_an_endpoint_that_is_down_ends_the_run(config, tmp_path):
    server = Server(lambda prompt: httpx.Response(503))
    with pytest.raises(RuntimeError, match=r"20 requests in a row failed, the last with InternalServerError; .*to resume"):
        server.run(dataclasses.replace(config, size=200), tmp_path / "run")
    assert 20 <= len(server.prompts) < 20 + config.concurrency


def test_the_client_retries_by_itself(config, tmp_path):
    answers = iter([httpx.Response(500, headers={"retry-after-ms": "1"})])
    server = Server(lambda prompt: next(answers, completion(compose(prompt))))
    report = server.run(dataclasses.replace(config, size=1, retries=1), tmp_path / "run")
    assert (report["written"], report["failed"], len(server.prompts)) == (1, 0, 2)


@pytest.mark.parametrize("bound", [1, 3])
def test_requests_at_a_time_are_bounded(config, tmp_path, bound):
    server = Server(delay=lambda prompt: 0.002)
    server.run(dataclasses.replace(config, concurrency=bound), tmp_path / "run")
    assert server.most == bound


def test_gates_do_not_depend_on_the_order_of_the_answers(config, tmp_path):
    def same(prompt):  # siblings of a disease are all alike: the plan's first of each form stays
        text = compose(re.search("「(.+?)」", prompt)[0])
        return completion(EXAM.format("これ", text) if "試験問題を1問" in prompt else text)

    orders = []
    for name, seed in (("a", 1), ("b", 2)):
        rng = random.Random(seed)
        server = Server(same, lambda prompt, rng=rng: rng.random() / 100)
        report = server.run(config, tmp_path / name)
        orders.append([item["key"] for item in lines(tmp_path / name / "items.jsonl")])
    assert orders[0] != orders[1] and sorted(orders[0]) == sorted(orders[1])
    assert report["accepted"] == 5 and report["pass_rates"]["near_duplicate"] == 5 / 40
    for name in ("gates.jsonl", "documents.jsonl"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_items_that_hold_a_benchmark_row_are_not_accepted(config, tmp_path):
    row = "78歳の男性。発熱と咳嗽を主訴に来院し、胸部X線写真で右下肺野に浸潤影を認めた。"
    (tmp_path / "rows.jsonl").write_text(json.dumps({"question": row}, ensure_ascii=False) + "\n", encoding="utf-8")
    server = Server(lambda prompt: completion(compose(prompt) + (row if "「市中肺炎」" in prompt else "")))
    report = server.run(dataclasses.replace(config, benchmarks=str(tmp_path / "rows.jsonl")), tmp_path / "run")
    assert report["contamination_checked"]
    assert report["pass_rates"]["contamination"] == 32 / 40  # five terms, eight items each
    assert report["terms_covered"] == 4
    assert not any("市中肺炎" in d.text for d in sources.read(tmp_path / "run" / "documents.jsonl"))


def test_a_dry_run_measures_and_leaves_finished_items(config, tmp_path, capsys):
    dry, rest = Server(), Server()
    report = dry.run(dataclasses.replace(config, dry_run=True, dry_run_items=3), tmp_path / "run")
    assert (report["written"], report["left"], report["left_tokens"]) == (3, 37, 3700)
    assert report["left_hours"] == pytest.approx(37 / report["items_per_second"] / 3600)
    assert "3 of 40 items were written as a measurement" in capsys.readouterr().out
    assert not (tmp_path / "run" / "documents.jsonl").exists()
    rest.run(config, tmp_path / "run")
    assert len(rest.prompts) == 37 and not set(dry.prompts) & set(rest.prompts)
    again = Server().run(dataclasses.replace(config, dry_run=True), tmp_path / "run")
    assert (again["written"], again["left"]) == (0, 0)
    with pytest.raises(RuntimeError, match="none of the 8 items of the dry run was written"):
        Server(lambda prompt: completion("")).run(dataclasses.replace(config, dry_run=True), tmp_path / "other")


def test_an_endpoint_is_named_by_the_user_alone(config, tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_BASE_URL", "http://elsewhere.invalid/v1")
    with pytest.raises(ValueError, match=r"base_url='': name the server that may receive the prompts"):
        textbooks.run(dataclasses.replace(config, base_url=""), tmp_path / "run")
    with pytest.raises(ValueError, match="model='': choose a model that http://nowhere"):
        textbooks.run(dataclasses.replace(config, model=""), tmp_path / "run")
    with pytest.raises(ValueError, match="concurrency=0"):
        dataclasses.replace(config, concurrency=0)


# The generator


def test_the_generator_sends_nothing_and_writes_of_the_tables(tmp_path, monkeypatch):
    monkeypatch.setattr(textbooks, "Endpoint", None)
    report = textbooks.run(TextbooksConfig(size=400), tmp_path)
    assert report["finished"] == 400 and report["failed"] == 0 and report["accepted"] > 380
    assert report["terms_covered"] == report["terms"] == 159 and report["counted_in"] == "characters"
    items = lines(tmp_path / "items.jsonl")
    assert all(item["term"] in item["text"] for item in items)
    exams = [item["text"] for item in items if item["style"] == "試験問題"]
    assert exams and all(map(prompts.is_exam, exams))
    assert textbooks.run(TextbooksConfig(size=400), tmp_path)["written"] == 0


def test_the_generator_refuses_what_its_tables_do_not_hold(config, tmp_path):
    with pytest.raises(ValueError, match=r"backend='generator' conflict, which knows only the bundled tables: leave lexicons"):
        textbooks.run(dataclasses.replace(config, backend="generator"), tmp_path / "run")


# Gates


def test_measures_by_hand():
    assert textbook_gates.grams("あいうえ", 3) == ["あいう", "いうえ"]
    assert textbook_gates.jaccard({"a", "b", "c"}, {"b", "c", "d"}) == 2 / 4
    assert textbook_gates.repetition("一\n二\n\n一\n三") == 1 / 4
    assert textbook_gates.repetition("あいうえおかきくけこあいうえおかきくけこ") == pytest.approx(1 / 11)
    assert textbook_gates.repetition("") == 0


RECORD = {"text": compose("「市中肺炎」"), "term": "市中肺炎", "style": "教科書", "whole": True}


@pytest.mark.parametrize("name, change", [
    (None, {}),
    ("length", {"text": RECORD["text"][:149]}),
    ("length", {"text": RECORD["text"] + "".join(map(chr, range(0x4E00, 0x4E00 + 3700)))}),
    ("repetition", {"text": RECORD["text"] + RECORD["text"]}),
    ("repetition", {"text": RECORD["text"] + "\n同じ行" * 3}),
    ("term_present", {"text": RECORD["text"][4:]}),
    ("near_duplicate", {"text": RECORD["text"] + "終わり"}),
    ("contamination", {"text": RECORD["text"] + "第一問"}),
    ("form", {"whole": False}),
    ("form", {"style": "試験問題（知識）"}),
])
def test_each_gate_catches_its_fault_and_no_other(name, change):
    siblings = [set(textbook_gates.grams(RECORD["text"], 5))] if name == "near_duplicate" else []
    results = textbook_gates.gate(RECORD | change, siblings, GatesConfig(), lambda text: "第一問" in text)
    assert [gate for gate, passed in results.items() if not passed] == ([name] if name else [])


def test_terms_are_found_in_normalised_text():
    record = RECORD | {"term": "COPD", "text": "ＣＯＰＤ" + RECORD["text"]}
    assert textbook_gates.gate(record, [], GatesConfig(), None)["term_present"]


@pytest.mark.parametrize("change, right", [
    (("", ""), True), (("：", ":"), True), (("a. い", "ａ．い"), True), (("正解：c", "正解： (c)"), True), (("b. ろ", "b. い"), False),
    (("c. は\n", ""), False), (("正解：c", "正解：f"), False), (("解説：", "説明："), False), (("d. に", "a. に"), False)])
def test_the_layout_of_an_examination_item(change, right):
    assert prompts.is_exam(EXAM.format("X", "説明である。").replace(*change)) is right


def test_the_config_file_has_both_backends():
    get_config = runpy.run_path(Path(__file__).parents[2] / "configs" / "textbooks.py")["get_config"]
    assert configs.freeze(TextbooksConfig, get_config()) == TextbooksConfig()
    endpoint = configs.freeze(TextbooksConfig, get_config("endpoint,base_url=http://x/v1,gates.shortest=10"))
    assert (endpoint.backend, endpoint.base_url, endpoint.gates.shortest) == ("openai", "http://x/v1", 10)

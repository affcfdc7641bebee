"""Annotations of a random model: their form holds all the same, and each record has its line once."""

import collections
import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from slm.inference.sampling import Settings
from slm.local import annotate, instructions
from slm.local.annotate import AnnotateConfig
from slm.local.instructions import Form, Instruction, locate
from slm.local.runtime import RuntimeConfig
from slm.text.normalize import normalize

EXTRACT = Instruction("extract", "", "抜き出す。\n「{text}」")
CLASSIFY = Instruction("classify", "", "{labels}\n{text}", labels='改善|ＣＲＰ"高値"|悪化\\')
SUMMARISE = Instruction("summarise", "短く。", "「{text}」")
SEEDS = (16, 19, 26)  # with others a model that is so random says [] to all
RECORDS = ["患者は糖尿病性網膜症と診断され、糖尿病で通院中。", "発熱なし。It's 37.2℃、ＣＲＰ　10⁶。", "\\ \"血圧\"　120/80'\n咳嗽あり。",
           "頭痛", "。。。", "'", "既往に高血圧、胃癌。" * 30]


def config(exported, records, instruction=EXTRACT, **settings) -> AnnotateConfig:
    settings = {"temperature": 50.0, "top_p": 1.0, "max_tokens": 40, "seed": SEEDS[0]} | settings
    return AnnotateConfig(instruction, records=str(records), settings=Settings(**settings),
                          runtime=RuntimeConfig(str(exported), threads=1))


def write_lines(path: Path, texts) -> Path:
    path.write_text("".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts), encoding="utf-8")
    return path


def run(own: AnnotateConfig, workdir: Path) -> tuple[dict, list[dict]]:
    result = annotate.run(own, workdir)
    return result, [json.loads(line) for line in (workdir / "annotations.jsonl").read_text("utf-8").splitlines()]


# The form -----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("seed", SEEDS)
def test_what_is_extracted_stands_in_the_record(seed, exported, words, tmp_path):
    result, lines = run(config(exported, write_lines(tmp_path / "r.jsonl", RECORDS), seed=seed), tmp_path / "out")
    assert [line["id"] for line in lines] == list("1234567")
    assert result["records"] == result["done_now"] == 7 and result["errors"] == result["not_in_text"] == 0
    assert "not medical advice" in result["note"]
    assert lines[-1]["cut_tokens"] > 0 == lines[0]["cut_tokens"] and result["cut"] == 1
    told = 0
    for line, text in zip(lines, map(normalize, RECORDS)):
        for entity in line["entities"]:
            told += 1
            start, end = entity["start"], entity["end"]
            assert start < end and text[start:end] == entity["text"] and "。" not in entity["text"]
            assert {start, end} <= words.borders(text)
    assert told >= 5 and lines[4]["entities"] == []


def test_of_a_long_record_what_does_not_stand_there_is_marked(exported, tmp_path, monkeypatch):
    monkeypatch.setattr(instructions, "_LONGEST_COPIED", 0)
    own = config(exported, write_lines(tmp_path / "r.jsonl", RECORDS), max_tokens=120)
    result, lines = run(own, tmp_path / "out")
    entities = [(entity, normalize(text)) for line, text in zip(lines, RECORDS) for entity in line["entities"]]
    # Bytes that make no character are told as U+FFFD, each.
    assert entities and all(0 < len(entity["text"].replace("\ufffd", "")) <= 80 for entity, _ in entities)
    odd = [entity for entity, text in entities if entity.get("in_text") is False and entity["text"] not in text]
    assert len(odd) == result["not_in_text"] > 0
    assert all(text[entity["start"]:entity["end"]] == entity["text"] for entity, text in entities if "start" in entity)


def test_classes_and_summaries(exported, tmp_path):
    records = write_lines(tmp_path / "r.jsonl", RECORDS[:3] * 5)
    _, lines = run(config(exported, records, CLASSIFY), tmp_path / "classes")
    assert {line["label"] for line in lines} <= {"改善", 'ＣＲＰ"高値"', "悪化\\"}  # as they were given
    _, short = run(config(exported, records, CLASSIFY, max_tokens=1), tmp_path / "short")
    assert all(line["label"] is None and line["finish"] == "length" for line in short if line["finish"] == "length")
    assert any(line["label"] is None for line in short)
    result, lines = run(config(exported, records, SUMMARISE, max_tokens=20), tmp_path / "summaries")
    assert all(not re.search(r"[\x00-\x1f\x7f]", line["summary"]) for line in lines)
    assert result["unfinished"] == sum(line["finish"] == "length" for line in lines) > 0


@pytest.mark.parametrize("answer, entities", [
    ("[]", []), ("[", []), ("['糖尿病", []), ("['a', 'b', 'c", ["a", "b"]), ("['a', ", ["a"]),
    (r"['\'', '\\', '\\n', 'x\'", ["'", "\\", "\\n"]), ("['a']", ["a"])])
def test_an_answer_that_was_ended_is_read_as_far_as_it_is_whole(answer, entities):
    assert [entity["text"] for entity in Form(EXTRACT).read(answer, "")["entities"]] == entities


def test_places():
    text = "糖尿病性網膜症と糖尿病、糖尿病"
    assert locate(["糖尿病", "糖尿病性網膜症", "癌", "糖尿病"], text) == [
        {"text": "糖尿病", "start": 8, "end": 11}, {"text": "糖尿病性網膜症", "start": 0, "end": 7},
        {"text": "癌", "in_text": False}, {"text": "糖尿病", "start": 12, "end": 15}]
    assert [place["start"] for place in locate(["網膜症", "糖尿病性網膜症", "網膜症"], text)] == [4, 0, 4]


# Going on -----------------------------------------------------------------------------------------------------

COMMAND = """
import json, sys, time
from pathlib import Path
from slm import config
from slm.local import annotate
own = config.freeze(annotate.AnnotateConfig, json.loads(sys.argv[1]))
print(json.dumps(annotate.run(own, Path(sys.argv[2]))))
"""


def kill_twice(own: AnnotateConfig, workdir: Path, count: int) -> None:
    """Kills the job at a third and at two thirds of its records, and lets it end."""
    command = [sys.executable, "-c", COMMAND, json.dumps(dataclasses.asdict(own)), str(workdir)]
    file, there = workdir / "annotations.jsonl", 0
    for share in (1, 2):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                   env=os.environ | {"JAX_PLATFORMS": "cpu"})
        while not file.exists() or file.read_bytes().count(b"\n") < count * share // 3:
            assert process.poll() is None, "it ended before it was killed"
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert there < (there := file.read_bytes().count(b"\n")) < count
    with open(file, "ab") as torn:
        torn.write('{"id": "糖'.encode()[:-1])  # as a full disk or a worse end leaves it
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["records"] == count and result["done_now"] == count - there
    lines = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
    assert [line["id"] for line in lines] == [str(number) for number in range(1, count + 1)]
    assert result["unfinished"] == collections.Counter(line["finish"] for line in lines)["length"]


def test_killed_twice_each_record_has_its_line_once(exported, tmp_path):
    records = write_lines(tmp_path / "r.jsonl", (f"患者{number}は頭痛を訴えた。" for number in range(60)))
    kill_twice(config(exported, records, max_tokens=4), tmp_path / "out", 60)


@pytest.mark.slow
def test_killed_twice_over_a_thousand_records(exported, tmp_path):
    records = write_lines(tmp_path / "r.jsonl", (f"患者{number}は頭痛を訴えた。" for number in range(1000)))
    kill_twice(config(exported, records, max_tokens=8), tmp_path / "out", 1000)


def test_it_goes_on_with_new_records_and_refuses_changed_ones(exported, tmp_path):
    file, out = tmp_path / "r.jsonl", tmp_path / "out"
    own = config(exported, write_lines(file, RECORDS[:2]), max_tokens=4)
    run(own, out)
    before = (out / "annotations.jsonl").read_bytes()
    write_lines(file, RECORDS[:4])
    result, lines = run(own, out)
    assert (result["records"], result["done_now"], len(lines)) == (4, 2, 4)
    after = (out / "annotations.jsonl").read_bytes()
    assert after.startswith(before)
    for other, words in ((config(exported, file, max_tokens=5), "line 1 was written by another model file, instruction or settings"),
                         (config(exported, file, SUMMARISE, max_tokens=4), "line 1 was written by"),
                         (config(exported, write_lines(tmp_path / "x.jsonl", RECORDS[1:]), max_tokens=4),
                          "x.jsonl, line 1 .*changed since its id was annotated")):
        with pytest.raises(ValueError, match=words):
            run(other, out)
    assert (out / "annotations.jsonl").read_bytes() == after


def test_a_record_that_fails_is_told_and_the_others_go_on(exported, tmp_path, monkeypatch):
    own = config(exported, write_lines(tmp_path / "r.jsonl", RECORDS[:4]), max_tokens=4)
    grammar = Form.grammar
    monkeypatch.setattr(Form, "grammar", lambda self, text, borders: 'root ::= "a' if "頭痛" in text else grammar(
        self, text, borders))
    result, lines = run(own, tmp_path / "out")
    assert result["errors"] == 1 and ["error" in line for line in lines] == [False, False, False, True]
    assert "llama.cpp" in lines[3]["error"] and "頭痛" not in lines[3]["error"]
    monkeypatch.setattr(Form, "grammar", lambda self, text, borders: 'root ::= "a')
    with pytest.raises(RuntimeError, match="all 4 records failed"):
        run(own, tmp_path / "bad")


# Refusals -----------------------------------------------------------------------------------------------------

FILES = {
    "no.csv": (b"", "no.csv has 0 columns 'text'"), "header.csv": (b"text\n", "header.csv has no records"),
    "column.csv": (b"id,body\n1,a\n", "0 columns 'text' among the 2 of its first"),
    "empty.csv": (b"text\na\n\" \"\n", r"empty.csv, row 2 is empty"),
    "bytes.csv": (b"text\na\n\xff\xfe\n", r"bytes.csv, line 3 is neither UTF-8 \(byte 0xFF\) nor CP932"),
    "fields.csv": (b"text,b\na,b\na\n", r"row 2 \(line 3\) has 1 fields, the header has 2"),
    "quote.csv": (b'text\na\n"b\nc\n', r"row 2 \(line 4\) cannot be read as CSV"),
    "long.csv": (b"text\n" + b"a" * 1_000_001, r"row 1 has 1,000,001 bytes"),
    "a.jsonl": (b'{"text": "a"}\n{"text": 1}\n', "line 2 has no text in 'text'"),
    "b.jsonl": (b'{"text": "a"}\n{"te', "line 2 is not JSON"),
    "surrogate.jsonl": (rb'{"text": "\ud800"}', "line 1 is not UTF-8"),
    "c.xml": (b"<a/>", "is of no known format"),
}


@pytest.mark.parametrize("name", FILES)
def test_odd_records_are_refused_before_anything_is_written(name, exported, tmp_path, monkeypatch):
    content, words = FILES[name]
    (tmp_path / name).write_bytes(content)
    monkeypatch.setattr(annotate.runtime, "load", None)
    with pytest.raises(ValueError, match=words) as refused:
        run(config(exported, tmp_path / name), tmp_path / "out")
    assert name in str(refused.value)
    assert list((tmp_path / "out").iterdir()) == []


def test_records_of_files_and_rows(tmp_path):
    def read(records, **settings):
        return [(record.id, record.text) for record in annotate._records(AnnotateConfig(
            EXTRACT, records=str(records), **settings))]
    for name in ("b/2.txt", "a/1.txt", "3.txt", "a/4.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f"記録{name}", encoding="utf-8-sig")
    assert read(tmp_path) == [("3.txt", "記録3.txt"), ("a/1.txt", "記録a/1.txt"), ("b/2.txt", "記録b/2.txt")]
    assert read(tmp_path / "*/*.txt") == [("a/1.txt", "記録a/1.txt"), ("b/2.txt", "記録b/2.txt")]
    table = tmp_path / "r.csv"
    table.write_text('番号,text\nA,"頭痛, 発熱\nなし"\n\nB,"""咳"""\n', encoding="utf-8-sig")
    assert read(table) == [("1", "頭痛, 発熱\nなし"), ("2", '"咳"')]
    assert read(table, id_column="text", text_column="番号") == [("頭痛, 発熱\nなし", "A"), ('"咳"', "B")]
    for encoding in ("cp932", "utf-16"):
        encoded = tmp_path / "u.csv"
        encoded.write_text("番号,経過\nA,頭痛\n", encoding=encoding)
        assert read(encoded, id_column="番号", text_column="経過") == [("A", "頭痛")]
        (tmp_path / "notes[1]").mkdir(exist_ok=True)
        (tmp_path / f"notes[1]/{encoding}.txt").write_text("発熱", encoding=encoding)
    assert read(tmp_path / "notes[1]/*.txt") == [("cp932.txt", "発熱"), ("utf-16.txt", "発熱")]
    for place, words in ((tmp_path / "nowhere", "is missing"), (tmp_path / "*.csvx", "has no records"), ("", "no rec")):
        with pytest.raises((FileNotFoundError, ValueError), match=words):
            read(place)
    (tmp_path / "s.CSV").write_text("番号,text\nC,発熱\n", encoding="utf-8")
    (tmp_path / "t.jsonl").write_text('{"番号": "D", "text": "嘔気"}\n', encoding="utf-8")
    tables = [("r.csv:1", "頭痛, 発熱\nなし"), ("r.csv:2", '"咳"'), ("s.CSV:1", "発熱"), ("t.jsonl:1", "嘔気")]
    assert read(tmp_path / "[rst].*") == tables
    assert [id for id, _ in read(tmp_path / "[rst].*", id_column="番号")] == ["A", "B", "C", "D"]
    odd = tmp_path / "data[2024]"
    odd.mkdir()
    (odd / "x.txt").write_text("動悸")
    assert read(odd) == [("x.txt", "動悸")]


def test_a_folder_is_read_in_any_case_and_what_is_passed_over_is_named(exported, tmp_path, capsys):
    notes = tmp_path / "notes"
    for name in ("1.txt", "2.TXT", "ward/b/3.Txt", "ward/4.md", "table.csv"):
        (notes / name).parent.mkdir(parents=True, exist_ok=True)
        (notes / name).write_text("頭痛")
    (notes / "linked").symlink_to(tmp_path)
    result, lines = run(config(exported, notes, max_tokens=4), tmp_path / "out")
    assert [line["id"] for line in lines] == ["1.txt", "2.TXT", "ward/b/3.Txt"]
    assert (result["records"], result["passed_over"]) == (3, 3)
    message = capsys.readouterr().err
    assert f"3 files of {notes} are passed over" in message
    assert all(f"{notes / name}" in message for name in ("ward/4.md", "table.csv", "linked"))
    (notes / "table.csv").unlink()
    result, _ = run(config(exported, notes / "*", max_tokens=4), tmp_path / "glob")
    assert (result["records"], result["passed_over"]) == (2, 2)
    assert f"2 files of {notes}/* are passed over" in capsys.readouterr().err


@pytest.mark.parametrize("settings", [{"text_column": "経過"}, {"id_column": "番号"}])
def test_settings_of_tables_are_refused_with_texts(settings, exported, tmp_path):
    (tmp_path / "1.txt").write_text("頭痛")
    for source in (tmp_path, tmp_path / "1.txt", tmp_path / "*.txt"):
        with pytest.raises(ValueError, match=r"are settings of tables, and .* has files of text only"):
            run(dataclasses.replace(config(exported, source), **settings), tmp_path / "out")


def test_an_id_that_comes_twice_is_refused_with_both_places(exported, tmp_path):
    (tmp_path / "r.csv").write_text("id,text\n1,a\n2,b\n1,c\n")
    own = dataclasses.replace(config(exported, tmp_path / "r.csv"), id_column="id")
    with pytest.raises(ValueError, match=r"r.csv, row 3 has the id of .*r.csv, row 1: "):
        run(own, tmp_path / "out")


@pytest.mark.parametrize("instruction, sentence", [
    ({"kind": "extract", "system": "", "prompt": "{text}", "lables": "A"}, "has kind, system, prompt of an instruction's keys, and 1 others"),
    ({"kind": "extract", "prompt": "{text}"}, "has kind, prompt of an instruction's keys, and 0 others"), ([], "has none of an instruction's keys"),
    ({"kind": "extract", "system": 1, "prompt": "{text}"}, "own.json.system is a int"),
    ({"kind": "list", "system": "", "prompt": "{text}"}, "own.json.kind is unknown: choose one of extract"),
    ({"kind": "extract", "system": "", "prompt": "text"}, "write {text} exactly once"),
    ({"kind": "classify", "system": "", "prompt": "{text}"}, "has no labels and kind=classify"),
    ({"kind": "extract", "system": "", "prompt": "{text}", "labels": "A|B"}, "to classify and only then"),
    ({"kind": "classify", "system": "", "prompt": "{text}", "labels": "A|Ａ"}, "at least two, all different"),
    ({"kind": "classify", "system": "", "prompt": "{text}", "labels": "A||B"}, "at least two, all different")])
def test_odd_instructions_are_refused(instruction, sentence, exported, tmp_path):
    (tmp_path / "own.json").write_text(json.dumps(instruction))
    own = config(exported, tmp_path, dataclasses.replace(EXTRACT, file=str(tmp_path / "own.json")))
    with pytest.raises(ValueError, match=re.escape(sentence)):
        run(own, tmp_path / "out")


def test_a_saved_instruction_is_that_of_the_config(exported, tmp_path):
    file = tmp_path / "own.json"
    file.write_text(json.dumps({name: value for name, value in dataclasses.asdict(CLASSIFY).items() if name != "file"}))
    assert instructions.read(dataclasses.replace(EXTRACT, file=str(file))) == CLASSIFY
    asked = Form(CLASSIFY).messages("{labels}{text}")  # a record says what it likes
    assert asked == [{"role": "user", "content": '改善、ＣＲＰ"高値"、悪化\\\n{labels}{text}'}]


def test_the_tokenizer_is_read_once(exported, tmp_path, monkeypatch):
    reads = []
    load = annotate.runtime.load_tokenizer
    monkeypatch.setattr(annotate.runtime, "load_tokenizer", lambda folder: reads.append(folder) or load(folder))
    run(config(exported, write_lines(tmp_path / "r.jsonl", RECORDS[:1]), max_tokens=4), tmp_path / "out")
    assert reads == [exported / "tokenizer"]


def test_models_that_cannot_annotate_are_refused(exported, tmp_path):
    records = write_lines(tmp_path / "r.jsonl", RECORDS[:1])
    own = config(exported, records)
    (tmp_path / "training" / "checkpoints").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match=r"training holds no GGUF file.*configs/export.py:gguf"):
        run(dataclasses.replace(own, runtime=RuntimeConfig(str(tmp_path / "training"))), tmp_path / "out")
    with pytest.raises(ValueError, match=r"the instruction has .* max_tokens=255 leaves 1 of the model's context of 256"):
        run(dataclasses.replace(own, settings=Settings(max_tokens=255)), tmp_path / "out")
    with pytest.raises(ValueError, match="parallel=0"):
        run(dataclasses.replace(own, parallel=0), tmp_path / "out")

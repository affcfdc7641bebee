"""A rare word is planted in odd inputs of every job: it is in nothing that is printed, and in no file but the outputs.

Each case names the documented outputs that hold records (`holds`); every other file of the folder, and all of TMPDIR, is
searched for the word, and must be readable by its owner alone. `says` shows that the planted file was read.
"""

import bz2
import gzip
import json
import logging
import os
import subprocess
import sys
import tempfile
import threading
import urllib.parse
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from array_record.python import array_record_module

from slm import main
from slm.corpus import readers
from tests import planted
from tests.planted import LATIN, LONG, PRINTED, WORD, Case, Content, W, check, rows, table


def parquet(**columns) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        import pyarrow.parquet
        arrays = {name: value if isinstance(value, pyarrow.Array) else pyarrow.array(value)
                  for name, value in columns.items()}
        pyarrow.parquet.write_table(pyarrow.table(arrays), path)
    return write


def broken_strings(path: Path) -> None:
    import pyarrow
    bad = pyarrow.array([W.encode() + b"\xff", b"x"]).view(pyarrow.string())
    parquet(text=bad)(path)


def half(write: Callable[[Path], None]) -> Callable[[Path], None]:
    def cut(path: Path) -> None:
        write(path)
        path.write_bytes(path.read_bytes()[:-20])
    return cut


def workbook(*lines, title: str = WORD) -> Callable[[Path], None]:
    """A workbook with a property of a type that its reader does not know."""
    def write(path: Path) -> None:
        import openpyxl
        from openpyxl.packaging.custom import StringProperty
        book = openpyxl.Workbook()
        book.active.title = title
        book.custom_doc_props.append(StringProperty(name=WORD, value=W))
        for line in lines:
            book.active.append(line)
        book.save(path.with_suffix(".new"))
        with zipfile.ZipFile(path.with_suffix(".new")) as old, zipfile.ZipFile(path, "w") as new:
            for name in old.namelist():
                new.writestr(name, old.read(name).replace(b"vt:lpwstr", b"vt:blob"))
        path.with_suffix(".new").unlink()
    return write


def archive(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(f"{LATIN}/workbook.xml", W)


# Corpora ------------------------------------------------------------------------------------------------------

def corpus(name: str, file: str, content: Content, says: str, files=None, **rest) -> Case:
    return Case(name, "configs/corpus.py:files --config.corpus.files=in/* --config.corpus.curated=false",
                {f"in/{file}": content, **(files or {})}, says, **rest)


SHARDS = ("runs/products/corpus-*/corpus-*.array_record*",)
DROPPED = ("runs/products/corpus-*/dropped/*",)
PAGE = "<page><title>{title}</title><ns>0</ns><id>{id}</id><revision><id>1</id><timestamp>{time}</timestamp><text>{text}</text></revision></page>"
SITE = "<siteinfo><sitename>{}</sitename><dbname>x</dbname><base>{}</base></siteinfo>"


def dump(*pages: str, name: str = "院内", base: str = "http://wiki.local/") -> str:
    return f"<mediawiki>{SITE.format(name, base)}{''.join(pages)}</mediawiki>"


def page(text: str, id="7", time="2020-01-01T00:00:00Z", title=WORD) -> str:
    return PAGE.format(text=text, id=id, time=time, title=title)


MANY = [{"text": f"{W}{number}回目の受診。"} for number in range(60)]
CORPUS = [
    corpus("a torn line", "a.jsonl", f'{{"text": "{W}', "a.jsonl, line 1 is not JSON"),
    corpus("a list as text", "a.jsonl", rows({"text": [W]}), "its 'text' is a list"),
    corpus("nested types", "a.jsonl", rows({"text": {W: {W: W}}}), "its 'text' is a dict"),
    corpus("another column", "a.jsonl", rows({W: W}), "it has 1 fields"),
    corpus("NaN as text", "a.jsonl", f'{{"text": NaN, "{W}": Infinity}}\n', "its 'text' is a float"),
    corpus("a line that is a string", "a.jsonl", rows({"text": "x"}, json.dumps(W)), "line 2 holds a str"),
    corpus("an array of strings", "a.json", json.dumps([W]), "item 1 is a str"),
    corpus("a torn array", "a.json", json.dumps([{"text": W}])[:-2], r"begins with \[ but is not a JSON array"),
    corpus("CP932", "a.jsonl", rows({"text": W}).encode("cp932"), "line 1 is not UTF-8"),
    corpus("an empty line", "a.jsonl", f'{{"text": "{W}"}}\n\n', "line 2 is empty"),
    corpus("half a character", "a.jsonl", f'{{"text": "{W}\\ud800"}}\n', "lone surrogate"),
    corpus("a number of 5,000 digits", "a.jsonl", f'{{"{W}": {"9" * 5000}}}\n', "line 1 is not JSON"),
    corpus("100,000 brackets", "a.jsonl", f'{{"{W}": {"[" * 100_000}\n', "line 1 is not JSON"),
    corpus("a licence in text", "a.jsonl", rows({"text": "x", "meta": f"license: {W}"}), "names a licence in 'meta'"),
    corpus("not OSCAR's", "a.jsonl", rows({"content": [W], "warc_headers": W}), "is not OSCAR's"),
    corpus("gzip cut short", "a.jsonl.gz", gzip.compress(rows({"text": W * 999}).encode())[:-9], "ends or breaks"),
    corpus("no gzip", "a.jsonl.gz", W, "ends or breaks"),
    corpus("no bzip2", "a.txt.bz2", W, "breaks off"),
    corpus("no zstd", "a.jsonl.zst", W, "ends or breaks"),
    corpus("text in CP932", "a.txt", W.encode("cp932"), "is not UTF-8"),
    corpus("one document", "a.txt", W, "leaves none for"),
    corpus("no column text", "a.parquet", parquet(**{WORD: [W]}), "has no column 'text'"),
    corpus("nested Parquet", "a.parquet", parquet(text=[[W]]), "its 'text' is a list"),
    corpus("Parquet of broken strings", "a.parquet", broken_strings, "not a whole Parquet file"),
    corpus("Parquet cut short", "a.parquet", half(parquet(text=[W])), "not a whole Parquet file"),
    corpus("no Parquet", "a.parquet", W, "not a whole Parquet file"),
    corpus("an unknown entity", "a.xml", '<!DOCTYPE x SYSTEM "y">' + dump(page(f"&{WORD};")), "ends or breaks after"),
    corpus("tags that cross", "a.xml", dump(page(f"<{WORD}></x>")), "ends or breaks after"),
    corpus("no dump", "a.xml", W * 9000, "ends or breaks after"),
    corpus("a dump of something else", "a.xml", f"<{WORD}><{WORD}>{W}</{WORD}></{WORD}>", "ends or breaks after the start"),
    corpus("a dump with another item", "a.xml", dump(page("x"), f"<{WORD}>{W}</{WORD}>"), "ends or breaks after page 7"),
    corpus("a dump with a number that is none", "a.xml", dump(page(W, id=WORD)), "ValueError in mediawiki.py"),
    corpus("a dump with a time that is none", "a.xml", dump(page(W, time=WORD)), "ValueError in mediawiki.py"),
    corpus("a hospital's wiki", "a.xml.bz2", bz2.compress(dump(*(
        page(f"{W}{number}。{{{{{WORD}さん 65歳}}}}{{{{{WORD}|1}}}}", title=f"{WORD}{number}") for number in range(60))).encode()),
        '"documents_in": 60', holds=SHARDS, ends_well=True),
    corpus("a TFDS folder", "d/features.json", rows({WORD: W}), "error: .*(is not a whole TFDS folder|Error in readers.py)",
           files={"in/d/dataset_info.json": rows({"name": WORD, "splits": [{"name": WORD}]})}),
    corpus("documents", "a.jsonl", rows(*MANY, {"text": W, "id": WORD, WORD: W}), '"documents_in": 61', holds=SHARDS, ends_well=True),
    # Sources and licences are listed by design: they name the sets.
    corpus("sources and licences", "a.jsonl", rows(*({**row, "source": WORD, "url": WORD} for row in MANY)),
           '"documents_in": 60', ends_well=True, holds=(*SHARDS, "runs/products/corpus-*/report.json", "run/result.json", PRINTED)),
]
CURATED = "configs/corpus.py:files --config.corpus.near_duplicates=false --config.corpus.workers=1 --config.corpus.files=in/a.jsonl"
ITEM = f"{WORD}さん、42歳の男性。健康診断で尿酸値の上昇を指摘された。飲酒歴はビールを毎日20年間。生活指導として適切でないのはどれか。"
CURATION = [
    Case("curated", f"{CURATED} --config.corpus.benchmarks=in/b.jsonl",
         {"in/a.jsonl": rows(*MANY, {"id": WORD, "text": f"問題を一つ。{ITEM}"}, {"id": f"{WORD}2", "text": ""}), "in/b.jsonl": rows({"q": ITEM})},
         '"contaminated": 1', ends_well=True, holds=SHARDS + DROPPED),
    Case("two processes", CURATED.replace("workers=1", "workers=2").replace("a.jsonl", "*.jsonl"),
         {"in/a.jsonl": rows({"text": [W]}), "in/b.jsonl": rows({"text": "x"})}, "line 1 has no string field 'text'"),
    Case("a benchmark with an open quote", f"{CURATED} --config.corpus.benchmarks=in/b.csv",
         {"in/a.jsonl": rows(*MANY), "in/b.csv": f'q\n"{LONG}'}, '"documents_in": 60', ends_well=True),
    Case("a benchmark of single letters", f"{CURATED} --config.corpus.benchmarks=in/b.json",
         {"in/a.jsonl": rows({"text": "x"}), "in/b.json": json.dumps([{WORD: "a"}])}, "holds no text"),
    Case("a list of facilities", f"{CURATED} --config.corpus.facilities=in/f.txt",
         {"in/a.jsonl": rows({"text": "x"}), "in/f.txt": LONG + "\n"}, "line 1 has 240 characters"),
]


# Lexicons -----------------------------------------------------------------------------------------------------

def lexicon(name: str, file: str, content: Content, says: str, **rest) -> Case:
    return Case(f"lexicon: {name}", f"configs/textbooks.py:endpoint --config.base_url={{url}} --config.model=m --config.size=1 --config.retries=0 "
                f"--config.lexicons=in/{file}", {f"in/{file}": content}, says, **rest)


HEAD = ("出現形", "標準病名", "ICD10")
LEXICONS = [
    lexicon("CSV without a header", "a.csv", table([W, W], [W, "x"]), "has no known header"),
    lexicon("TSV without a header", "a.tsv", f"{W}\t{W}\n" * 2, "has no known header"),
    lexicon("an empty table with a header", "a.csv", table([*HEAD, WORD]), "holds no entry"),
    lexicon("a workbook without a header", "a.xlsx", workbook([W, W]), "has no known header"),
    lexicon("no workbook", "a.xlsx", W, "is not a whole xlsx file"),
    lexicon("another archive", "a.xlsx", archive, "is not a whole xlsx file"),
    lexicon("no old workbook", "a.xls", W, "is not a whole xls file"),
    lexicon("a broken old workbook", "a.xls", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + W.encode("utf-16-le") * 99, "is not a whole xls file"),
    lexicon("a text instead of a list", "a.txt", LONG, "line 1 has 240 characters"),
    lexicon("a line that is too long", "a.txt", LONG * 100, "line 1 is longer than"),
    lexicon("EUC-JP", "a.txt", f"{WORD}、咳嗽、発熱、頭痛\n".encode("euc_jp"), "may be EUC-JP"),
    lexicon("ISO-2022-JP", "a.txt", W.encode("iso2022_jp"), "is ISO-2022-JP"),
    lexicon("UTF-16 without its mark", "a.txt", f"{W}\n".encode("utf-16-le"), "holds NUL bytes"),
    lexicon("UTF-16 cut short", "a.txt", f"{W}\n".encode("utf-16")[:-1], "is not utf-16"),
    lexicon("neither disease nor drug", "a.txt", f"{WORD}\n", "hold no disease and no drug among 1 entries"),
    lexicon("a field that is not closed", "a.csv", table(HEAD) + f'{WORD},"{"x" * 200_000}\n', "line 2 is longer than"),
    Case("lexicon: words too long for MeCab", "configs/tokenizer.py:debug --config.corpus.sample_megabytes=0.3 --config.compare=false "
         "--config.tokenizer.lexicons=in/a.csv", {"in/a.csv": table(HEAD, [LONG * 40, "x", "J18"])}, "mecab-dict-index failed"),
]


# Benchmarks, and a model behind an endpoint -------------------------------------------------------------------

OPENAI = "--config.backend=openai --config.base_url={url} --config.model=m --config.choice=free --config.extraction=free --config.exam=free --config.resamples=20"
OWN = f"configs/evaluate.py:tables --config.tables.own.file=in/t.csv {OPENAI}"
COLUMNS = ("tag", "question", "optionA", "optionB", "answer")
CHOICE = table(COLUMNS, *([WORD, f"{W}{number}", WORD, "なし", "AB"[number % 2]] for number in range(4)))
EXTRACTION = table(("question", "answer"), *([f"{number}\n「{W}」", f"['{WORD}']"] for number in range(4)))
ANSWERS = ("run/answers/*",)


def said(content: object = W, finish: object = "stop", **more) -> tuple[int, dict]:
    choice = {"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": content}}
    return 200, {"id": "x", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice | more]}


def own(name: str, content: Content, says: str, more: str = "", reply=(500, {}), **rest) -> Case:
    return Case(f"table: {name}", f"{OWN} {more}".strip(), {"in/t.csv": content}, says, reply=reply, **rest)


EXTRACT = "--config.tables.own.kind=extraction"
LIKELIHOOD = "--config.choice=likelihood"
REFUSED = {"error": {"message": W, "type": WORD, "code": WORD, "param": WORD}}
TABLES = [
    own("a row as header", table([W, W]), "has no column question, answer, optionA, optionB"),
    own("an answer that is no letter", table(COLUMNS, ["", W, "x", "y", WORD]), "row 0 has an answer of 4 characters"),
    own("an answer of another row", table(COLUMNS, ["", W, "x", "", "B"]), "row 0 has an answer of 1 characters"),
    own("entities that are no list", table(COLUMNS, ["", W, "", "", W]), "which is not a Python list", EXTRACT),
    own("entities that are no strings", table(COLUMNS, ["", W, "", "", f"[['{WORD}']]"]), "which is not a Python list", EXTRACT),
    own("entities with an odd escape", table(COLUMNS, ["", W, "", "", f"['\\d{WORD}'"]), "which is not a Python list", EXTRACT),
    own("no question", table(COLUMNS, [WORD, "", WORD, WORD, "A"]), "row 0 has no question or no answer"),
    own("a header alone", table([*COLUMNS, WORD]), "has no rows"),
    own("a row cut short", table(COLUMNS, [WORD, W]), "row 0 has no question or no answer"),
    own("a table of NUL bytes", f"{W}\0", "holds NUL bytes"),
    own("questions in both files", CHOICE, "share questions, the first is t:0", "--config.tables.own.train_file=in/t.csv",
        reply=said("A"), holds=ANSWERS),
    own("an endpoint that quotes", CHOICE, "gave no usable answer for m", reply=(400, REFUSED)),
    own("an endpoint that quotes with another status", CHOICE, "gave no usable answer for m", reply=(404, W)),
    own("a reply that is no JSON", CHOICE, "gave no usable answer for m", reply=(200, f"<html>{W}".encode())),
    own("a reply that is a list", CHOICE, "gave no usable answer for m", reply=(200, [W])),
    own("a reply without choices", CHOICE, "gave no usable answer for m", reply=(200, {WORD: W})),
    own("choices that are a text", CHOICE, "gave no usable answer for m", reply=(200, {"choices": W})),
    own("content that is a list", CHOICE, "AttributeError in endpoint.py", reply=said([{"text": W}])),
    own("content that is an object", CHOICE, "AttributeError in endpoint.py", reply=said({WORD: W})),
    own("a reply that says it all", CHOICE, "own", reply=said(), holds=ANSWERS, ends_well=True),
    own("entities", EXTRACTION, "own", EXTRACT, reply=said(f"['{WORD}', '{W}']"), holds=ANSWERS, ends_well=True),
    own("a table in CP932", CHOICE.encode("cp932"), "own", reply=said("B"), holds=ANSWERS, ends_well=True),
    own("no log-probabilities", CHOICE, "returns no log-probabilities", LIKELIHOOD, reply=said()),
    own("log-probabilities that are a text", CHOICE, "gave no usable answer for m", LIKELIHOOD, reply=said(logprobs=W)),
    own("a log-probability that is a text", CHOICE, "TypeError in endpoint.py", LIKELIHOOD, reply=said(logprobs={"content": [
        {"token": W, "logprob": WORD, "top_logprobs": [{"token": "A", "logprob": WORD}]}]})),
    own("log-probabilities of other tokens", CHOICE, "own", LIKELIHOOD, holds=ANSWERS, ends_well=True, reply=said(logprobs={
        "content": [{"token": W, "logprob": -1.0, "top_logprobs": [{"token": WORD, "logprob": -1.0}]}]})),
]
JMED = ("jmmlu_med", "crade", "rrtnm", "smdis", "jcsts", "mrner_disease", "mrner_medicine", "nrner")


def jmed(**changed: str) -> dict[str, Content]:
    """JMED-LLM's test files, of which some are changed."""
    return {f"in/datasets/{name}.csv": changed.get(name, EXTRACTION if "ner" in name else CHOICE) for name in JMED}


PROBLEM = {"problem_id": "112A1", "problem_text": W, "choices": [WORD, "x"], "text_only": True, "answer": ["a"], "points": "1"}
FACTS = {"problem_id": "112A1", "category": WORD, "kinki": [], "human_accuracy": WORD}


def igakuqa(name: str, problem, says: str, facts=FACTS, **rest) -> Case:
    files = {}
    for letter in "ABCDEF":
        named = {"problem_id": f"112{letter}1"}
        of_section = (problem, facts) if letter == "A" else (PROBLEM | named, FACTS | named)
        for suffix, row in zip(("", "_metadata"), of_section):
            files[f"in/data/2018/112-{letter}{suffix}.jsonl"] = row if isinstance(row, str | bytes) else rows(row)
    return Case(f"IgakuQA: {name}", f"configs/evaluate.py:igakuqa --config.igakuqa.data_dir=in --config.igakuqa.shots=0 {OPENAI}",
                files, says, reply=said("a"), **rest)


BENCHMARKS = [
    Case("JMED-LLM: a wrong answer", f"configs/evaluate.py:jmed_llm --config.jmed_llm.data_dir=in {OPENAI}",
         jmed(crade=table(COLUMNS, ["", W, "x", "y", WORD])), "crade.csv, row 0 has an answer of 4 characters"),
    Case("JMED-LLM: entities that are none", f"configs/evaluate.py:jmed_llm --config.jmed_llm.data_dir=in {OPENAI}",
         jmed(nrner=table(COLUMNS, ["", W, "", "", W])), "nrner.csv, row 0 has an answer"),
    Case("JMED-LLM", f"configs/evaluate.py:jmed_llm --config.jmed_llm.data_dir=in {OPENAI}", jmed(), "crade",
         ANSWERS, ends_well=True, reply=said("A")),
    igakuqa("a torn line", rows(PROBLEM)[:-9], "112-A.jsonl, line 1 is not JSON"),
    igakuqa("a text", json.dumps(W, ensure_ascii=False), "112-A.jsonl, line 1 is not a JSON object"),
    igakuqa("other keys", {"problem_id": "112A1", WORD: W}, "112-A.jsonl, line 1 has no problem_text"),
    igakuqa("a text for a list", PROBLEM | {"choices": W}, "line 1: choices is"),
    igakuqa("choices of other types", PROBLEM | {"choices": [[W]]}, "line 1: choices is"),
    igakuqa("an answer that is no letter", PROBLEM | {"answer": [WORD]}, "line 1: the answer has 1 parts"),
    igakuqa("points that are no number", PROBLEM | {"points": WORD}, "line 1: the points of 4 characters"),
    igakuqa("another problem_id", PROBLEM | {"problem_id": WORD}, "line 1: the problem_id of 4 characters"),
    igakuqa("half a character", f'{{"problem_text": "{W}\\ud800"}}\n', "line 1 has half of a surrogate pair"),
    igakuqa("CP932", rows(PROBLEM).encode("cp932"), "112-A.jsonl is not UTF-8"),
    igakuqa("facts of other types", PROBLEM, "112-A_metadata.jsonl, line 1: kinki is", FACTS | {"kinki": W}),
    igakuqa("facts of another problem", PROBLEM, "has no line of 112A1", FACTS | {"problem_id": WORD}),
    igakuqa("an exam", PROBLEM, "igakuqa", holds=ANSWERS, ends_well=True),
]


# Textbooks ----------------------------------------------------------------------------------------------------

BOOKS = ("configs/textbooks.py:endpoint --config.base_url={url} --config.model=m --config.size=3 --config.retries=0 "
         "--config.concurrency=1 --config.lexicons=in/diseases.txt")
ITEMS = ("run/items.jsonl", "run/documents.jsonl")


def textbooks(name: str, reply, says: str, more: str = "", files=None, **rest) -> Case:
    return Case(f"textbooks: {name}", f"{BOOKS} {more}".strip(), {"in/diseases.txt": "市中肺炎\n", **(files or {})}, says,
                reply=reply, **rest)


TEXTBOOKS = [
    textbooks("an endpoint that quotes", (400, REFUSED), '"failed": 3', ends_well=True),
    textbooks("a down endpoint", (400, REFUSED), "20 requests in a row failed, the last with", "--config.size=30"),
    textbooks("a dry run", (400, REFUSED), "none of the 3 items", "--config.dry_run=true"),
    textbooks("no JSON", (200, f"<html>{W}".encode()), '"failed": 3', ends_well=True),
    textbooks("another type", (200, {"choices": [W]}), '"failed": 3', ends_well=True),
    textbooks("an odd end", said("", finish=WORD), '"failed": 3', ends_well=True),
    textbooks("a list", said([W]), '"failed": 3', ends_well=True),
    textbooks("half a character", (200, json.dumps(said(f"{W}\ud800")[1]).encode()), '"failed": 3', ends_well=True),
    textbooks("texts", said(W), '"written": 3', holds=ITEMS, ends_well=True),
    textbooks("texts of a lexicon", said("市中肺炎とは"), '"written": 3', files={"in/diseases.txt": f"{WORD}病\n"}, holds=ITEMS, ends_well=True),
    textbooks("a torn file of items", said(W), "line 1 is not an item", files={"run/items.jsonl": f"{W}\n{W}\n"}, holds=ITEMS),
]
LABELS = [{"text": f"{W}{number}", "label": number % 2} for number in range(200)]


def quality(name: str, content: Content, says: str, **rest) -> Case:
    return Case(f"quality: {name}", "configs/quality.py --config.labels=in/l.jsonl", {"in/l.jsonl": content}, says, **rest)


OTHERS = [
    quality("a label that is a text", rows({"text": W, "label": WORD}), "line 1 has a label of type str"),
    quality("no text", rows({WORD: W, "label": 1}), "line 1 has no string 'text'"),
    quality("half a character", f'{{"text": "{W}\\ud800", "label": 1}}\n', "lone surrogate"),
    quality("few", rows(*LABELS[:9]), "hold 4 good and 5 poor documents"),
    quality("enough", rows(*LABELS), "held out: precision", ends_well=True),
    Case("compare: no JSON", "configs/compare.py --config.runs=in/a,in/b", {"in/a/result.json": W}, "result.json is not JSON"),
    Case("figures: no JSON", "configs/figures.py:corpus --config.corpus=in/a", {"in/a/report.json": W}, "report.json is not JSON"),
]
CASES = [*CORPUS, *CURATION, *LEXICONS, *TABLES, *BENCHMARKS, *TEXTBOOKS, *OTHERS]
runner, endpoint = planted.runner, planted.endpoint


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_word_is_in_the_documented_outputs_alone(case, runner, endpoint):
    check(case, runner, url=endpoint(case.reply) if "{url}" in case.arguments else "")


# The test itself ----------------------------------------------------------------------------------------------

def _in_a_thread(text: str) -> None:
    def fail() -> None:
        raise KeyError(text)
    thread = threading.Thread(target=fail)
    thread.start()
    thread.join()


def _in_a_file(name: str, encode: Callable[[str], bytes]) -> Callable[[str], object]:
    return lambda text: Path(name).write_bytes(encode(text))


def _in_an_archive(text: str) -> None:
    with zipfile.ZipFile("run/x.npz", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("text", text)


def _in_records(text: str) -> None:
    writer = array_record_module.ArrayRecordWriter("run/x.array_record", "group_size:1")
    writer.write(text.encode())
    writer.close()


LEAKS = {
    "stdout": print, "stderr": lambda text: print(text, file=sys.stderr), "log": logging.error, "warning": warnings.warn,
    "descriptor": lambda text: os.write(2, text.encode()), "process": lambda text: subprocess.run(["echo", text]),
    "thread": _in_a_thread, "json": _in_a_file("run/x.json", lambda text: json.dumps(text).encode()),
    "bytes": _in_a_file("run/x.json", lambda text: repr(text.encode()).encode()),
    "cp932": _in_a_file("run/x", lambda text: text.encode("cp932")), "gzip": _in_a_file("run/x.gz", lambda text: gzip.compress(text.encode())),
    "name": lambda text: Path("run", text).mkdir(), "percent": lambda text: Path("run", urllib.parse.quote(text)).touch(),
    "cut": lambda text: print(repr(text[:40].encode())), "archive": _in_an_archive, "records": _in_records,
    "temporary": lambda text: Path(tempfile.mkdtemp(), "x").write_text(text)}


@pytest.mark.parametrize("name", LEAKS)
def test_a_leak_is_seen(name, runner, monkeypatch):
    def leak(line, location):
        LEAKS[name](WORD)
        raise ValueError(f"{location} is refused")
    monkeypatch.setattr(readers, "_parse", leak)
    with pytest.raises(AssertionError, match=r"leaks: .+"):
        check(corpus("", "a.jsonl", rows({"text": W}), "line 1 is refused|a fault of the program"), runner)


def test_what_others_may_read_is_seen(runner, monkeypatch):
    monkeypatch.setattr(main.os, "umask", lambda mask: 0)
    with pytest.raises(AssertionError, match=r"others may read: \[.*config.json"):
        check(corpus("", "a.jsonl", rows({"text": [W]}), "line 1 has no string field"), runner)


def test_there_are_many_inputs():
    assert len(CASES) >= 60 and len({case.name for case in CASES}) == len(CASES)

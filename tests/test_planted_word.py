"""A rare word is planted in odd inputs of every job: it is in nothing that is printed, and in no file but the outputs.

Each case names the documented outputs that hold records (`holds`); every other file of the folder, and all of TMPDIR, is
searched for the word, and must be readable by its owner alone. `says` shows that the planted file was read.
"""

import bz2
import csv
import dataclasses
import functools
import gzip
import io
import json
import logging
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
import pytest

from slm.checkpoint import Checkpoints
from slm.model import decoder
from slm.model.presets import PRESETS
from tests.planted import LATIN, WORD, Runner, file_holds, holds

MODEL = dataclasses.replace(PRESETS["debug"], layers=1, head_size=16, query_heads=4, kv_heads=2, context=256)
W, LONG = f"{WORD}様は65歳、咳嗽あり。", WORD * 60
Content = str | bytes | list | Callable[[Path], None]  # text, bytes, rows of JSON Lines, or a function that writes it


@dataclasses.dataclass(frozen=True)
class Case:
    """A run: `files` below `in/`, what it prints, and whether it ends well; `holds` is empty where nothing is kept."""
    name: str
    arguments: str
    files: dict[str, Content]
    says: str
    holds: tuple[str, ...] = ()
    ends_well: bool = False
    stdin: str = ""


def rows(*values) -> str:
    return "".join((value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)) + "\n"
                   for value in values)


def table(*lines) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(lines)
    return text.getvalue()


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


def workbook(*lines, title: str = WORD, area: str = "") -> Callable[[Path], None]:
    def write(path: Path) -> None:
        import openpyxl
        from openpyxl.workbook.defined_name import DefinedName
        book = openpyxl.Workbook()
        sheet = book.active
        sheet.title = title
        for line in lines:
            sheet.append(line)
        if area:
            sheet.defined_names.add(DefinedName("_xlnm.Print_Area", attr_text=area))
        book.save(path)
    return write


def archive(path: Path) -> None:
    import zipfile
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(f"{LATIN}/workbook.xml", W)


# Corpora ------------------------------------------------------------------------------------------------------

def corpus(name: str, file: str, content: Content, says: str, *more: str, **rest) -> Case:
    return Case(name, " ".join(["configs/corpus.py:files --config.corpus.files=in/* --config.corpus.curated=false", *more]),
                {file: content}, says, **rest)


SHARDS = ("runs/products/corpus-*/corpus-*.array_record*",)
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
    corpus("Parquet of broken strings", "a.parquet", broken_strings, "error: "),
    corpus("Parquet cut short", "a.parquet", half(parquet(text=[W])), "not a whole Parquet file"),
    corpus("no Parquet", "a.parquet", W, "not a whole Parquet file"),
    corpus("an unknown entity", "a.xml", dump(page(f"&{WORD};")), "ends or breaks after"),
    corpus("tags that cross", "a.xml", dump(page(f"<{WORD}></x>")), "ends or breaks after"),
    corpus("no dump", "a.xml", W * 9000, "ends or breaks after"),
    corpus("a dump of something else", "a.xml", f"<{WORD}><{WORD}>{W}</{WORD}></{WORD}>", "error: "),
    corpus("a dump with another item", "a.xml", dump(page("x"), f"<{WORD}>{W}</{WORD}>"), "ends or breaks after page 7"),
    corpus("a dump with a number that is none", "a.xml", dump(page(W, id=WORD)), "error: "),
    corpus("a dump with a time that is none", "a.xml", dump(page(W, time=WORD)), "error: "),
    corpus("a hospital's wiki", "a.xml.bz2", bz2.compress(dump(*(
        page(f"{W}{number}。{{{{{WORD}さん 65歳}}}}{{{{{WORD}|1}}}}", title=f"{WORD}{number}") for number in range(60))).encode()),
        '"documents_in": 60', holds=SHARDS, ends_well=True),
    corpus("a TFDS folder", "d/features.json", rows({WORD: W}), "error: "),
    corpus("documents", "a.jsonl", rows(*MANY, {"text": W, "id": WORD, WORD: W}), '"documents_in": 61', holds=SHARDS, ends_well=True),
    # Sources and licences are listed by design: they name the sets.
    corpus("sources and licences", "a.jsonl", rows(*({**row, "source": WORD, "url": WORD} for row in MANY)),
           '"documents_in": 60', ends_well=True, holds=(*SHARDS, "runs/products/corpus-*/report.json", "run/result.json", "printed")),
]
CURATED = "configs/corpus.py:files --config.corpus.near_duplicates=false --config.corpus.workers=1 --config.corpus.files=in/a.jsonl"
ITEM = f"{WORD}さん、42歳の男性。健康診断で尿酸値の上昇を指摘された。飲酒歴はビールを毎日20年間。生活指導として適切でないのはどれか。"
CURATION = [
    Case("curated", f"{CURATED} --config.corpus.benchmarks=in/b.jsonl",
         {"a.jsonl": rows(*MANY, {"id": WORD, "text": f"問題を一つ。{ITEM}"}, {"id": f"{WORD}2", "text": f"{W}\ud800"}), "b.jsonl": rows({"q": ITEM})},
         '"contaminated": 1', ends_well=True, holds=(*SHARDS, "runs/products/corpus-*/dropped/*")),
    Case("two processes", CURATED.replace("workers=1", "workers=2").replace("a.jsonl", "*.jsonl"),
         {"a.jsonl": rows({"text": [W]}), "b.jsonl": rows({"text": "x"})}, "line 1 has no string field 'text'"),
    Case("a benchmark with an open quote", f"{CURATED} --config.corpus.benchmarks=in/b.csv",
         {"a.jsonl": rows({"text": "x"}), "b.csv": f'q\n"{LONG * 9000}'}, "error: in/b.csv"),
    Case("a benchmark of single letters", f"{CURATED} --config.corpus.benchmarks=in/b.json",
         {"a.jsonl": rows({"text": "x"}), "b.json": json.dumps([{WORD: "a"}])}, "holds no text"),
    Case("a list of facilities", f"{CURATED} --config.corpus.facilities=in/f.txt",
         {"a.jsonl": rows({"text": "x"}), "f.txt": LONG + "\n"}, "line 1 has 240 characters"),
]


# Lexicons -----------------------------------------------------------------------------------------------------

def lexicon(name: str, file: str, content: Content, says: str, **rest) -> Case:
    return Case(f"lexicon: {name}", f"configs/textbooks.py:endpoint --config.base_url={{url}} --config.model=m --config.size=1 --config.retries=0 "
                f"--config.lexicons=in/{file}", {file: content}, says, **rest)


HEAD = ("出現形", "標準病名", "ICD10")
LEXICONS = [
    lexicon("CSV without a header", "a.csv", table([W, W], [W, "x"]), "has no known header"),
    lexicon("TSV without a header", "a.tsv", f"{W}\t{W}\n" * 2, "has no known header"),
    lexicon("an empty table with a header", "a.csv", table([*HEAD, WORD]), "holds no entry"),
    lexicon("a workbook without a header", "a.xlsx", workbook([W, W]), "has no known header"),
    lexicon("a workbook with an odd area", "a.xlsx", workbook([W], area=f"'{WORD}'!#REF!"), "has no known header"),
    lexicon("no workbook", "a.xlsx", W, "is not a whole xlsx file"),
    lexicon("another archive", "a.xlsx", archive, "is not a whole xlsx file"),
    lexicon("no old workbook", "a.xls", W, "is not a whole xls file"),
    lexicon("a broken old workbook", "a.xls", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + W.encode("utf-16-le") * 99, "is not a whole xls file"),
    lexicon("a text instead of a list", "a.txt", LONG, "line 1 has 240 characters"),
    lexicon("a line that is too long", "a.txt", LONG * 100, "line 1 is longer than"),
    lexicon("EUC-JP", "a.txt", "鷺沼谷嶋、咳嗽、発熱、頭痛\n".encode("euc_jp"), "error: in/a.txt"),
    lexicon("ISO-2022-JP", "a.txt", W.encode("iso2022_jp"), "is ISO-2022-JP"),
    lexicon("UTF-16 without its mark", "a.txt", f"{W}\n".encode("utf-16-le"), "error: in/a.txt"),
    lexicon("UTF-16 cut short", "a.txt", f"{W}\n".encode("utf-16")[:-1], "is not utf-16"),
    lexicon("neither disease nor drug", "a.txt", f"{WORD}\n", "hold no disease and no drug among 1 entries"),
    lexicon("a field that is not closed", "a.csv", table(HEAD) + f'{WORD},"{"x" * 200_000}\n' * 1, "error: in/a.csv"),
    Case("lexicon: words too long for MeCab", "configs/tokenizer.py:debug --config.corpus.sample_megabytes=0.3 --config.compare=false "
         "--config.tokenizer.lexicons=in/a.csv", {"a.csv": table(HEAD, [LONG * 40, "x", "J18"])}, "error: "),
]


@pytest.fixture(scope="module")
def model(products, words, tmp_path_factory):
    """A folder with a training's workdir of random parameters, and the same as GGUF in `gguf/`."""
    folder = tmp_path_factory.mktemp("model")
    params = jax.jit(functools.partial(decoder.initialize, MODEL))(jax.random.key(0))
    shutil.copytree(products / "tokenizer", folder / "tokenizer")
    saved = Checkpoints(folder / "checkpoints", keep=1)
    saved.save(1, {"params": params}, {"step": 1, "tokenizer": words.fingerprint, "config": {
        "model": dataclasses.asdict(MODEL), "seed": 0}}, None)
    saved.close()
    return folder


@pytest.fixture
def runner(tmp_path, monkeypatch, capfd, caplog):
    (tmp_path / "configs").symlink_to(Path(__file__).parents[1] / "configs")
    return Runner(tmp_path, monkeypatch, capfd, caplog)


def plant(folder: Path, files: dict[str, Content]) -> None:
    for name, content in files.items():
        path = folder / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if callable(content):
            content(path)
        else:
            path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))


def check(case: Case, runner: Runner, **places: object) -> None:
    plant(runner.folder, case.files)
    arguments = case.arguments
    for name, place in places.items():
        arguments = arguments.replace(f"{{{name}}}", str(place))
    config, *rest = arguments.split(" ")
    left = runner.run(f"--config={config}", *rest, stdin=case.stdin)
    assert (left.code is None) == case.ends_well, left.printed
    import re
    assert re.search(case.says, left.printed), left.printed
    assert left.leaks(*case.holds) == [], left.printed
    assert left.others_may_read == []
    if case.holds:
        assert left.files, "the word is nowhere: it was not read"


@pytest.mark.parametrize("case", [*CORPUS, *CURATION, *LEXICONS], ids=lambda case: case.name)
def test_corpora_and_lexicons(case, runner):
    check(case, runner, url="http://127.0.0.1:9/v1")

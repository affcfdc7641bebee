import gzip
import json

import pyarrow
import pyarrow.parquet
import pytest

from slm.corpus import sources
from slm.corpus.sources import CorpusConfig, Document

ROWS = [{"id": "1", "text": "一つ目\n改行", "source": "s", "license": "CC BY 4.0", "url": "u"}, {"text": "二つ目"}]
LINES = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS).encode()


def read(path):
    return list(sources.read(path))


@pytest.fixture
def files(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(LINES)
    with gzip.open(tmp_path / "a.jsonl.gz", "wb") as file:
        file.write(LINES)
    with pyarrow.CompressedOutputStream(str(tmp_path / "a.jsonl.zst"), "zstd") as file:
        file.write(LINES)
    table = {name: [row.get(name) for row in ROWS] for name in sources.FIELDS}
    pyarrow.parquet.write_table(pyarrow.table(table), tmp_path / "a.parquet")
    (tmp_path / "a.txt").write_text("一つ目\n改行", encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.jsonl.zst", "a.parquet"])
def test_every_format_gives_the_same_documents(files, name):
    first, second = read(files / name)
    assert first == Document("1", "一つ目\n改行", "s", "CC BY 4.0", "u")
    assert (second.text, second.source, second.license) == ("二つ目", "a", "unknown")
    assert name in second.id and "2" in second.id


def test_a_byte_order_mark_is_no_text(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(b"\xef\xbb\xbf" + LINES)
    assert read(tmp_path / "a.jsonl")[0].text == "一つ目\n改行"


def test_zst_of_several_frames(tmp_path):
    for path in (tmp_path / "one.zst", tmp_path / "two.zst"):
        with pyarrow.CompressedOutputStream(str(path), "zstd") as file:
            file.write(LINES)
    both = tmp_path / "both.jsonl.zst"
    both.write_bytes((tmp_path / "one.zst").read_bytes() + (tmp_path / "two.zst").read_bytes())
    assert len(read(both)) == 4


def test_plain_text_is_one_document(files):
    (document,) = read(files / "a.txt")
    assert document.text == "一つ目\n改行"
    assert document.source == files.name


@pytest.mark.parametrize("name, content, message", [
    ("a.jsonl", b'{"text": "x"}\n\n', r"line 2 is empty"),
    ("a.jsonl", b'{"text": "x"}\n{"tex', r"line 2 is not JSON"),
    ("a.jsonl", b'{"text": ' + b"[" * 100_000, r"line 1 is not JSON"),
    ("a.jsonl", b'{"text": ' + b"9" * 5000 + b"}", r"line 1 is not JSON"),
    ("a.jsonl", b"[1]\n", r"line 1 holds a list"),
    ("a.jsonl", b'{"body": "x"}\n', r"no string field 'text' \(found \['body'\]\): rename"),
    ("a.jsonl", b'{"text": 3}\n', r"its 'text' is a int"),
    ("a.jsonl", '{"text": "肺炎"}\n'.encode("cp932"), r"line 1 is not UTF-8 \(byte 0x94 at 10\).*iconv"),
    ("a.jsonl", b'{"text": "' + b"x" * 10_000_000 + b'"}\n', r"line 1 is longer than 8,000,000 bytes"),
    ("a.jsonl.gz", gzip.compress(LINES * 100)[:-20], r"breaks after line \d+ .*fetch it again"),
    ("a.jsonl.gz", LINES, r"breaks after line 0"),
    ("a.jsonl.gz", gzip.compress(LINES)[:20] + b"\0" * 40, r"breaks after line 0"),
    ("a.txt", b"\xff\xfe", r"not UTF-8"),
    ("a.txt", b"x" * 8_000_001, r"longer than 8,000,000 bytes"),
    ("a.parquet", b"PAR1 cut short", r"not a whole Parquet file"),
    ("a.docx", b"", r"cannot tell its kind"),
])
def test_bad_files_are_named_with_place_and_mend(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message) as error:
        read(tmp_path / name)
    assert str(tmp_path / name) in str(error.value)


def test_parquet_without_text_column(tmp_path):
    pyarrow.parquet.write_table(pyarrow.table({"body": ["x"]}), tmp_path / "a.parquet")
    with pytest.raises(ValueError, match=r"no column 'text' \(found \['body'\]\)"):
        read(tmp_path / "a.parquet")


def test_a_glob_without_files_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no file matches '.*nothing\.jsonl'"):
        sources.find([str(tmp_path / "nothing.jsonl")])


def test_fingerprint_follows_the_bytes(files):
    config = CorpusConfig(files=f"{files}/a.jsonl,{files}/a.txt")
    before = sources.fingerprint(config)
    assert before == sources.fingerprint(config)
    (files / "a.txt").write_text("別", encoding="utf-8")
    assert before != sources.fingerprint(config)
    assert sources.fingerprint(CorpusConfig()) != sources.fingerprint(CorpusConfig(seed=1))

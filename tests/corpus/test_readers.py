import bz2
import gzip
import json
import sys
import time

import pyarrow
import pyarrow.parquet
import pytest
from array_record.python import array_record_module

from slm.corpus import dataset, mediawiki, readers, sources, wiki_templates, wikitext
from slm.corpus.readers import Document
from slm.corpus.sources import CorpusConfig

ROWS = [{"id": "1", "text": "一つ目\n改行", "source": "s", "license": "CC BY 4.0", "url": "u"}, {"text": "二つ目"}]
LINES = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS).encode()
MANY = b"".join(b'{"id": "%d", "text": "%d"}\n' % (i, i * i) for i in range(3000))


def read(path, *parts):
    return list(readers.read(path, *parts))


def zst(content):
    sink = pyarrow.BufferOutputStream()
    with pyarrow.CompressedOutputStream(sink, "zstd") as file:
        file.write(content)
    return sink.getvalue().to_pybytes()


@pytest.fixture
def files(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(LINES)
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(LINES))
    (tmp_path / "a.jsonl.bz2").write_bytes(bz2.compress(LINES))
    (tmp_path / "a.jsonl.zst").write_bytes(zst(LINES))
    table = {name: [row.get(name) for row in ROWS] for name in readers.FIELDS}
    pyarrow.parquet.write_table(pyarrow.table(table), tmp_path / "a.parquet")
    (tmp_path / "a.txt").write_text("一つ目\n改行", encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.jsonl.bz2", "a.jsonl.zst", "a.parquet"])
def test_every_format_gives_the_same_documents(files, name):
    first, second = read(files / name)
    assert first == Document("1", "一つ目\n改行", "s", "CC BY 4.0", "u")
    assert (second.text, second.source, second.license, second.warnings) == ("二つ目", "a", "unknown", ())
    assert name in second.id and "2" in second.id


def test_warnings_are_no_column_of_the_corpus():
    assert readers.FIELDS == ("id", "text", "source", "license", "url")


def test_a_byte_order_mark_is_no_text(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(b"\xef\xbb\xbf" + LINES)
    assert read(tmp_path / "a.jsonl")[0].text == "一つ目\n改行"


def test_zst_of_several_frames(tmp_path):
    (tmp_path / "both.jsonl.zst").write_bytes(zst(LINES) + zst(LINES))
    assert len(read(tmp_path / "both.jsonl.zst")) == 4


@pytest.mark.parametrize("fields, expected", [
    ({"metadata": {"license": "CC BY-NC 2.0", "source": "journal", "url": "u", "id": "7"}},
     Document("7", "本文", "journal", "CC BY-NC 2.0", "u")),
    ({"id": "1", "source": "s", "meta": '{"licence": ["MIT", "CC0"], "source": "t"}'}, Document("1", "本文", "s", "MIT; CC0")),
    ({"id": "1", "license": "CC BY", "meta": {"doc": {"license": {"name": "CC BY-ND"}}}},
     Document("1", "本文", "a", "CC BY; CC BY-ND")),
    ({"id": "1", "license": "unknown", "metadata": {"dc:rights": "CC0", "license_score": 1}}, Document("1", "本文", "a", "CC0")),
    ({"id": "1", "info": {"rights": "CC BY-SA"}}, Document("1", "本文", "a", "CC BY-SA")),
    ({"id": "1", "metadata": {"provenance": [1], "license": None}, "meta": "no object"}, Document("1", "本文", "a")),
    ({"id": "1", "meta": {"warc_headers": {"warc-target-uri": "u"}, "quality_warnings": ["tiny"], "categories": ["adult"]}},
     Document("1", "本文", "oscar-2301", "unknown (annotations: CC0-1.0)", "u", ("tiny", "adult"), "web")),
    ({"id": "1", "meta": {"warc_headers": {"warc-target-uri": "u"}, "annotations": ["adult"]}},
     Document("1", "本文", "oscar-2201", "unknown (annotations: CC0-1.0)", "u", ("adult",), "web")),
])
def test_metadata_one_level_down(tmp_path, fields, expected):
    row = {"text": "本文"} | fields
    (tmp_path / "a.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    assert read(tmp_path / "a.jsonl") == [expected]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([row]), tmp_path / "a.parquet")
    assert [document.license for document in read(tmp_path / "a.parquet")] == [expected.license]


def test_a_licence_that_cannot_be_read_is_not_passed(tmp_path):
    (tmp_path / "a.jsonl").write_text(json.dumps({"text": "x", "meta": "{'license': 'CC BY-NC'}"}) + "\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"line 1 names a licence in 'meta', which is text but not JSON: write it"):
        read(tmp_path / "a.jsonl")


def test_a_page_of_a_dump_that_has_no_end(tmp_path, monkeypatch):
    monkeypatch.setattr(mediawiki, "LONGEST_PAGE", 500_000)
    pages = "".join(page(i, f"記事{i}", "長" * 100_000) for i in range(1, 5))
    with gzip.open(tmp_path / "a.xml.gz", "wb") as file:
        file.write((HEAD + pages + "</mediawiki>").encode())
    assert [len(document.text) for document in read(tmp_path / "a.xml.gz")] == [100_000] * 4
    with gzip.open(tmp_path / "a.xml.gz", "wb") as file:
        file.write((HEAD + page(7, "x", "前") + page(8, "x", "a" * 900_000)).encode())
    with pytest.raises(ValueError, match=r"a\.xml\.gz has more than 500,000 bytes in one page after page 7: "):
        read(tmp_path / "a.xml.gz")


def test_a_json_array_is_read_where_json_lines_are(tmp_path):
    for name, content in (("a.json", json.dumps(ROWS, indent=2).encode()), ("b.jsonl", b"\xef\xbb\xbf" + json.dumps(ROWS).encode()),
                          ("c.json.gz", gzip.compress(json.dumps(ROWS).encode()))):
        (tmp_path / name).write_bytes(content)
        documents = read(tmp_path / name)
        assert [document.text for document in documents] == [row["text"] for row in ROWS]
        assert documents[1].id == f"{tmp_path / name}, item 2"
        assert read(tmp_path / name, 1, 2) == documents[1:]


@pytest.mark.parametrize("content, message", [
    (b'[{"text": "x"}, 3]', r"item 2 is a int, not an object"), (b'[{"text": "x"}', r"begins with \[ but is not a JSON array"),
    (b'[1]\n[2]\n', r"not a JSON array .*give JSON Lines"), (b"[" * 100_000, r"not a JSON array"), (b'[{"body": 1}]', r"item 1 has no"),
    (b"[" + b" " * 3000, r"a JSON array of more than 2,000 bytes: write it as JSON Lines")])
def test_arrays_of_something_else(tmp_path, monkeypatch, content, message):
    monkeypatch.setattr(readers, "LONGEST_ARRAY", 2000 if len(content) == 3001 else 10**6)
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read(tmp_path / "a.json")


def test_plain_text_is_one_document(files):
    (document,) = read(files / "a.txt")
    assert document.text == "一つ目\n改行"
    assert document.source == files.name
    assert read(files / "a.txt", 0, 3) == [document] and read(files / "a.txt", 1, 3) == []


@pytest.mark.parametrize("name, content, message", [
    ("a.jsonl", b'{"text": "x"}\n\n', r"line 2 is empty"),
    ("a.jsonl", b'{"text": "x"}\n{"tex', r"line 2 is not JSON"),
    ("a.jsonl", b'{"text": ' + b"[" * 100_000, r"line 1 is not JSON"),
    ("a.jsonl", b'{"text": ' + b"9" * 5000 + b"}", r"line 1 is not JSON"),
    ("a.jsonl", b"[1]\n", r"item 1 is a int, not an object"),
    ("a.jsonl", b'{"body": "x"}\n', r"no string field 'text' \(it has 1 fields\): rename"),
    ("a.jsonl", b'{"text": 3}\n', r"its 'text' is a int"),
    ("a.jsonl", '{"text": "肺炎"}\n'.encode("cp932"), r"line 1 is not UTF-8 \(byte 0x94 at 10\).*iconv"),
    ("a.jsonl", b'{"text": "' + b"x" * 10_000_000 + b'"}\n', r"line 1 is longer than 8,000,000 bytes"),
    ("a.jsonl", b'{"content": 1, "warc_headers": {}}\n', r"line 1 has 'warc_headers' but is not OSCAR's"),
    ("a.jsonl", b'{"content": "x", "warc_headers": {}, "metadata": [1]}\n', r"OSCAR's .*'metadata': 'list'"),
    ("a.jsonl.gz", gzip.compress(LINES * 100)[:-20], r"breaks after line \d+ .*download it again"),
    ("a.jsonl.gz", LINES, r"breaks after line 0 \(Not a gzipped file\)"),  # without its first bytes
    ("a.jsonl.gz", gzip.compress(LINES)[:20] + b"\0" * 40, r"breaks after line 0"),
    ("a.jsonl.gz", b"", r"breaks after line 0 \(it has no bytes\)"),
    ("a.jsonl.zst", zst(LINES * 100)[:-20], r"breaks after line \d+ .*download it again"),
    ("a.jsonl.zst", LINES, r"breaks after line 0"),
    ("a.jsonl.zst", zst(LINES)[:8] + b"\xff" * 40, r"breaks after line 0"),
    ("a.jsonl.zst", zst(LINES) + b"garbage", r"breaks after line \d"),
    ("a.jsonl.zst", b"", r"breaks after line 0 \(it has no bytes\)"),
    ("a.txt", b"\xff\xfe", r"not UTF-8"),
    ("a.txt", b"x" * 8_000_001, r"longer than 8,000,000 bytes"),
    ("a.parquet", b"PAR1 cut short", r"not a whole Parquet file"),
    ("a.parquet", b"", r"not a whole Parquet file"),
    ("a.docx", b"", r"has no known format"),
])
def test_bad_files_are_named_with_location_and_fix(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message) as error:
        read(tmp_path / name)
    assert str(tmp_path / name) in str(error.value)


def test_parquet_that_unfolds_without_end(tmp_path, monkeypatch):
    monkeypatch.setattr(readers, "LONGEST_LINE", 50_000)
    path = tmp_path / "a.parquet"
    for texts, message in ((["長" * 40_000], r"row group 1 unfolds to [\d,]+ bytes for 1 rows, more than 50,000 a row"),
                           (["x", "長" * 40_000, *["y"] * 50], r"one of the rows from 1 on has a text of 120,000 bytes")):
        pyarrow.parquet.write_table(pyarrow.table({"text": texts}), path)
        with pytest.raises(ValueError, match=message):
            read(path)
    # A text that is stored once is never repeated in memory.
    many = pyarrow.DictionaryArray.from_arrays(pyarrow.array([0] * 1_000_000, pyarrow.int32()), ["x" * 40_000])
    pyarrow.parquet.write_table(pyarrow.table({"text": many}), path)
    before = pyarrow.total_allocated_bytes()
    assert next(readers.read(path)).text == "x" * 40_000
    assert pyarrow.total_allocated_bytes() - before < 5_000_000  # 40 MB a batch of repeated texts
    assert len(list(readers.read(path, 7, 100_000))) == 10


def test_parquet_without_text_column(tmp_path):
    pyarrow.parquet.write_table(pyarrow.table({"body": ["x"]}), tmp_path / "a.parquet")
    with pytest.raises(ValueError, match=r"no column 'text' \(it has 1 columns\)"):
        read(tmp_path / "a.parquet")


def test_parquet_of_several_row_groups_and_of_none(tmp_path):
    table = pyarrow.table({"text": [str(i) for i in range(2500)]})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet", row_group_size=700)
    documents = read(tmp_path / "a.parquet")
    assert [document.text for document in documents] == [str(i) for i in range(2500)]
    assert documents[2499].id == f"{tmp_path}/a.parquet, row 2500"
    assert [document.text for document in read(tmp_path / "a.parquet", 2, 1000)] == ["2", "1002", "2002"]
    pyarrow.parquet.write_table(table.slice(0, 0), tmp_path / "empty.parquet")
    assert read(tmp_path / "empty.parquet") == []


def test_a_part_parses_its_own_lines_only_and_counts_all(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(b'{"text": "x"}\nnot JSON\n{"text": "y"}\n')
    assert [document.text for document in read(tmp_path / "a.jsonl", 0, 2)] == ["x", "y"]
    with pytest.raises(ValueError, match="line 2 is not JSON"):
        read(tmp_path / "a.jsonl", 1, 2)
    (tmp_path / "a.jsonl").write_bytes(b'{"text": "x"}\n' + b"x" * 9_000_000)
    with pytest.raises(ValueError, match="line 2 is longer"):
        read(tmp_path / "a.jsonl", 0, 2)


@pytest.mark.parametrize("part, parts", [(3, 3), (-1, 3), (0, 0)])
def test_a_part_that_is_none(files, part, parts):
    with pytest.raises(ValueError, match=rf"part {part} of {parts}"):
        read(files / "a.jsonl", part, parts)


OSCAR = {"content": "糖尿病の\n食事療法", "warc_headers": {
    "warc-record-id": "<urn:uuid:83f2e1d4-5ed3-41db-86ff-f7826c4c20f9>", "warc-date": "2022-11-26T09:45:47Z",
    "content-type": "text/plain", "warc-type": "conversion", "warc-target-uri": "https://example.jp/dm"},
    "metadata": {"identification": {"label": "ja", "prob": 0.99}, "harmful_pp": 4063.1, "tlsh": "tlsh:T125315FF2B6088901",
                 "quality_warnings": ["tiny", "short_sentences"], "categories": ["adult"],
                 "sentence_identifications": [{"label": "ja", "prob": 0.9}, None]}}
CLEAN = {**OSCAR, "metadata": {**OSCAR["metadata"], "quality_warnings": None, "categories": None}}


@pytest.mark.parametrize("name, pack", [("a.jsonl", bytes), ("a.jsonl.gz", gzip.compress), ("ja_part_1.jsonl.zst", zst)])
def test_oscar_is_told_by_its_fields(tmp_path, name, pack):
    (tmp_path / name).write_bytes(pack("".join(json.dumps(row) + "\n" for row in (OSCAR, CLEAN)).encode()))
    first, second = read(tmp_path / name)
    assert first == Document(
        id="<urn:uuid:83f2e1d4-5ed3-41db-86ff-f7826c4c20f9>", text="糖尿病の\n食事療法", source="oscar-2301",
        license="unknown (annotations: CC0-1.0)", url="https://example.jp/dm",
        warnings=("tiny", "short_sentences", "adult"), profile="web")
    assert second.warnings == ()


def page(number, title, text, namespace=0, redirect=""):
    return f"""<page><title>{title}</title><ns>{namespace}</ns><id>{number}</id>{redirect}<revision><id>{number}9</id>
    <parentid>5</parentid><timestamp>2024-01-02T03:04:05Z</timestamp><contributor><username>利用者</username><id>3</id>
    </contributor><minor /><comment>訂正</comment><origin>9</origin><model>wikitext</model><format>text/x-wiki</format>
    <text bytes="9" sha1="abc" xml:space="preserve">{text}</text><sha1>abc</sha1></revision></page>\n"""


DIABETES = """{{Infobox disease
| Name = 糖尿病
| Image = [[ファイル:Blue circle.svg|100px]]
| ICD10 = {{ICD10|E|10|}}
}}
{{Otheruses|疾患|}}
[[ファイル:Insulin.png|thumb|200px|'''インスリン'''の[[六量体]]]]
'''糖尿病'''（とうにょうびょう、{{lang-en-short|diabetes mellitus}}）は、[[インスリン|インスリン作用]]の不足による''慢性''の[[高血糖]]を主徴とする&lt;ref name="a"&gt;{{Cite web|title=診療|url=http://example.jp}}&lt;/ref&gt;代謝疾患群である&lt;ref name="a" /&gt;。{{要出典|date=2024年}}{{仮リンク|膵島炎|en|Insulitis}}を伴う。&lt;!-- 注 --&gt;


__TOC__
== 診断 ==
{| class="wikitable"
! 項目 !! 値
|-
| 空腹時血糖 || 126 {{nowrap|mg/dL}}
|}
* HbA&lt;sub&gt;1c&lt;/sub&gt;は6.5%以上
* 白血球は10&lt;sup&gt;6&lt;/sup&gt;/μL、{{lang|en|[[C-peptide]]}}
# 血糖値&amp;nbsp;200&lt;br /&gt;以上
=== 病期{{R|b}} ===
; 前期
: 食後 R&amp;D &amp;lt;5%
&lt;math&gt;a^{2}&lt;/math&gt;[http://example.jp 公式サイト]

== 脚注 ==
{{Reflist}}
== 外部リンク ==
* [http://example.jp/x 学会]
[[Category:糖尿病|*]]
[[カテゴリ:代謝]]
{{DEFAULTSORT:とうにようひよう}}
"""
DIABETES_TEXT = """糖尿病（とうにょうびょう、diabetes mellitus）は、インスリン作用の不足による慢性の高血糖を主徴とする代謝疾患群である。膵島炎を伴う。

診断

HbA1cは6.5%以上
白血球は10⁶/μL、C-peptide
血糖値\u00a0200
以上
病期
前期
食後 R&D <5%
公式サイト

脚注

外部リンク
学会"""
HEAD = """<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.11/" version="0.11" xml:lang="ja">
<siteinfo><sitename>Wikipedia</sitename><dbname>jawiki</dbname><namespaces><namespace key="0" case="first-letter" />
<namespace key="1" case="first-letter">ノート</namespace></namespaces></siteinfo>
"""
DUMP = (HEAD + page(5, "糖尿病 (疾患)", DIABETES) + page(6, "DM", "#転送 [[糖尿病]]", redirect='<redirect title="糖尿病" />')
        + page(7, "ノート:糖尿病", "議論", namespace=1) + page(8, "空", "{{Stub}}")
        + "".join(page(100 + i, f"記事{i}", f"記事{i}は記事である。") for i in range(5)) + "</mediawiki>\n").encode()


@pytest.mark.parametrize("site, name, source, url", [
    ("<sitename>Wikibooks</sitename><base>https://ja.wikibooks.org/wiki/X</base>", "jawikibooks-1.xml", "wikibooks",
     "https://ja.wikibooks.org/wiki/"),
    ("<sitename>ウィキバーシティ</sitename><base>https://ja.wikiversity.org/wiki/X</base>", "a.xml", "wikiversity",
     "https://ja.wikiversity.org/wiki/"),
    ("<sitename>Wikibooks</sitename><dbname>enwikibooks</dbname>", "a.xml", "wikibooks", "https://en.wikibooks.org/wiki/"),
    ("<sitename>Wikisource</sitename>", "jawikisource-20240101-p.xml", "wikisource", "https://ja.wikisource.org/wiki/"),
    ("<sitename>Wikipedia</sitename><base>https://en.wikipedia.org/wiki/X</base>", "a.xml", "wikipedia",
     "https://en.wikipedia.org/wiki/")])
def test_every_project_of_wikimedia_keeps_its_name_and_address(tmp_path, site, name, source, url):
    (tmp_path / name).write_bytes(DUMP.replace(b"<sitename>Wikipedia</sitename><dbname>jawiki</dbname>", site.encode()))
    for document in read(tmp_path / name):
        assert (document.source, document.profile) == (source, "encyclopedia") and document.url.startswith(url)


def test_templates_that_are_dropped_are_counted_by_name(tmp_path):
    text = "{{Navbox|{{sup|2}}}}甲{{navbox\n|a=b}}{{lang|en}}{{[[長い文]]が続く|x}}{{Template:Main|乙}}{{" + "長" * 90 + "}}"
    (tmp_path / "a.xml").write_text(HEAD + page(1, "x", text) + "</mediawiki>", encoding="utf-8")
    (document,) = read(tmp_path / "a.xml")
    assert document.text == "甲"
    assert document.dropped_templates == {"navbox": 2, "lang": 1, "main": 1, "?": 2}


@pytest.mark.parametrize("unit", ["{{", "{{a|", "}}", "{{sup|1}}", "{{sup|", "{{a|[[b", "<ref>", "<!--", "{{{"])
def test_what_is_never_closed_takes_no_quadratic_time(unit):
    started = time.process_time()
    wikitext.without_notes(unit * 50_000)
    wiki_templates.without_templates(unit * 50_000 + "}}" * 50_000)
    assert wikitext.plain_text("<div>[http://x " * 50_000)[:2] == ("", ("wikitext not parsed",))
    assert len(wikitext.plain_text("<div>甲</div>[http://x 乙]<br>" * 3000)[0]) == 3000 * 3 - 1
    assert time.process_time() - started < 20  # below one second; minutes if quadratic


def test_the_wiki_of_a_hospital_is_not_wikipedia(tmp_path):
    (tmp_path / "jawiki-ward.xml").write_bytes(DUMP.replace(b"<sitename>Wikipedia<", "<sitename>病棟(Wiki[<".encode()))
    first, *_ = read(tmp_path / "jawiki-ward.xml")
    assert first == Document(id="5", text=DIABETES_TEXT, source="jawiki-ward")
    assert (first.profile, first.license, first.url) == ("clinical", "unknown", "")


def test_oscar_22_is_told_from_23(tmp_path):
    rows = [{**OSCAR, "metadata": {"annotation": annotation, "identification": {}}} for annotation in (["adult"], None)]
    (tmp_path / "o.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    assert [(d.source, d.warnings, d.profile) for d in read(tmp_path / "o.jsonl")] == [
        ("oscar-2201", ("adult",), "web"), ("oscar-2201", (), "web")]


@pytest.mark.parametrize("name, pack", [
    ("jawiki-20240101-pages-articles.xml", bytes), ("a.xml.gz", gzip.compress),
    ("jawiki-20240101-pages-articles1.xml-p1p114794.bz2", bz2.compress)])
def test_articles_of_a_wikipedia_dump(tmp_path, name, pack):
    (tmp_path / name).write_bytes(pack(DUMP))
    first, empty, *rest = read(tmp_path / name)
    assert first.text == DIABETES_TEXT
    assert first == Document(
        id="5", text=DIABETES_TEXT, source="wikipedia", license="CC-BY-SA-4.0",
        url="https://ja.wikipedia.org/wiki/%E7%B3%96%E5%B0%BF%E7%97%85_%28%E7%96%BE%E6%82%A3%29",
        profile="encyclopedia")
    assert (empty.id, empty.text) == ("8", "")  # a later step counts it as empty
    assert [document.text for document in rest] == [f"記事{i}は記事である。" for i in range(5)]


@pytest.mark.parametrize("source, text", [
    ("'''太字は'閉じない", "太字は'閉じない"),
    ("前<div class=x>中<ref>閉じない", "前中閉じない"),
    ("前\n{| class=x\n| 閉じない表", "前"),
    ("{{Infobox\n| a = {{lang|en|x}}\n| b = {{{c|d}}} }}本文", "本文"),
    ("[[:Category:疾患]]と[[Re:ゼロ]]と[[w:en:X|外]]", "Category:疾患とRe:ゼロと外"),
    ("10<sup>-5</sup>と10<sup>注</sup>とCO<sub>2</sub>", "10⁻⁵と10注とCO₂"),
    ("{{lang|en}}{{仮リンク}}{{Lang-de|[[Zucker]]<ref>x</ref>}}", "Zucker"),
    ("<nowiki>[[x]]</nowiki><gallery>\nファイル:a.jpg|説\n</gallery>&#x3042;&#xD800;", "[[x]]あ\ufffd"),
    ("#一\n##二\n----\n 三", "一\n二\n\n三"),
    ("3.1{{E|9}}/L、10{{Sup|-2}}、{{val|4.5|0.2|ul=mmol/L}}、{{val|60|u=%}}", "3.1×10⁹/L、10⁻²、4.5±0.2 mmol/L、60%"),
    ("{{formatnum:48000}}床、{{formatnum:1,500|R}}、{{nowrap|{{formatnum:900.50}} mg}}", "48,000床、1500、900.50 mg"),
    ("{{convert|37.5|°C|°F}}、{{cvt|10|to|20|kg|lb|0}}、{{convert|5|ft|10|in}}", "37.5 °C、10–20 kg、5 ft 10 in"),
    ("{{chem|H|2|PO|4|-}}、{{chem|131|I}}、{{Chem2|Ca(2+)}}、<ce>2H2O</ce>", "H₂PO₄⁻、¹³¹I、Ca²⁺、2H₂O"),
    ("{{frac|1|1|2}}錠、{{color|blue|[[血糖|血糖値]]}}、{{small|空腹}}{{仮リンク|甲|en|A|label=乙}}", "1 1/2錠、血糖値、空腹乙"),
    ("{{JIS2004フォント|辻}}と{{CJKV|髙}}{{Template:Lang|en|2=x=1}}{{未知範囲|値}}", "辻と髙x=1値"),
    ("{{hlist|甲|乙}}{{US$|1,200}}{{SimpleNuclide2|I|131}}{{dts|2020|1|2}}{{sup|[[注|2]]}}", "甲、乙$1,200¹³¹I2020年1月2日2"),
    ("{{閉じない|" * 3 + "本文", "{{閉じない|" * 3 + "本文"),
])
def test_wikitext_to_text(tmp_path, source, text):
    escaped = source.replace("&", "&amp;").replace("<", "&lt;")
    (tmp_path / "a.xml").write_text(HEAD + page(1, "x", escaped) + "</mediawiki>", encoding="utf-8")
    assert [document.text for document in read(tmp_path / "a.xml")] == [text]


def test_a_page_that_the_parser_cannot_take_is_kept_empty_with_a_warning(tmp_path, monkeypatch):
    import mwparserfromhell

    def fail(*_, **__):
        raise mwparserfromhell.parser.ParserError("stack")
    monkeypatch.setattr(mwparserfromhell, "parse", fail)
    (tmp_path / "a.xml").write_bytes(DUMP)
    assert {(document.text, document.warnings) for document in read(tmp_path / "a.xml")} == {("", ("wikitext not parsed",))}


@pytest.mark.parametrize("name, content, message", [
    ("a.xml", DUMP[:-200], r"breaks after page 103"),
    ("a.xml", DUMP[:-14], r"breaks after page 104"),  # the last page is whole, the dump is not
    ("a.xml", DUMP.replace(b"<ns>1</ns>", b"<ns>1</n>"), r"breaks after page 6 \(mismatched tag"),
    ("a.xml", b"", r"breaks after the start"),
    ("a.xml", b"<html><body>404</body></html>", r"after the start .* is not a Wikipedia XML dump"),
    ("a.xml.bz2", bz2.compress(DUMP)[:-50], r"breaks after .*download it again"),
    ("a.xml.bz2", DUMP, r"breaks after the start"),
    ("a.xml.bz2", b"", r"breaks after the start \(it has no bytes\)"),
    ("a.xml.gz", gzip.compress(DUMP)[:-30], r"breaks after .*download it again"),
])
def test_broken_dumps(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message) as error:
        read(tmp_path / name)
    assert str(tmp_path / name) in str(error.value)


def prepare(folder, rows, suffix="array_record"):
    """A TFDS folder of another's making, such as `wikipedia/20230601.ja/1.0.0`."""
    import tensorflow_datasets as tfds
    folder.mkdir(parents=True)
    features = tfds.features.FeaturesDict({name: tfds.features.Text() for name in rows[0]})
    infos = []
    for split in ("train", "validation"):
        template = tfds.core.ShardedFileTemplate(
            data_dir=tfds.core.Path(folder), template="{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
            dataset_name=folder.parts[-3], split=split, filetype_suffix=suffix)
        path = str(template.sharded_filepath(shard_index=0, num_shards=1))
        writer = array_record_module.ArrayRecordWriter(path, "group_size:1")
        for row in rows:
            writer.write(features.serialize_example(row))
        writer.close()
        infos.append(tfds.core.SplitInfo(name=split, shard_lengths=[len(rows)], num_bytes=1, filename_template=template))
    tfds.folder_dataset.write_metadata(data_dir=folder, features=features, version="1.0.0", check_data=False, split_infos=infos)
    return folder


ARTICLES = [{"title": f"糖尿病 {i}", "text": f"本文{i}"} for i in range(4)]


def test_wikipedia_of_tfds_has_its_train_split_read(tmp_path):
    documents = read(prepare(tmp_path / "wikipedia/20230601.ja/1.0.0", ARTICLES))
    assert [document.text for document in documents] == ["本文0", "本文1", "本文2", "本文3"]
    assert documents[1] == Document(
        id=f"{tmp_path}/wikipedia/20230601.ja/1.0.0, train 2", text="本文1", source="wikipedia", license="CC-BY-SA",
        url="https://ja.wikipedia.org/wiki/%E7%B3%96%E5%B0%BF%E7%97%85_1", profile="encyclopedia")
    assert "tensorflow" not in sys.modules


def test_wikipedia_of_tfds_tells_its_language(tmp_path):
    folder = prepare(tmp_path / "wikipedia/20230601.en/1.0.0", [{"title": "A/B?", "text": "x"}])
    info = json.loads((folder / "dataset_info.json").read_text())
    (folder / "dataset_info.json").write_text(json.dumps({**info, "configName": "20230601.en"}))
    assert read(folder)[0].url == "https://en.wikipedia.org/wiki/A/B%3F"


def test_another_dataset_of_tfds_is_named_by_its_source(tmp_path):
    (document,) = read(prepare(tmp_path / "notes/default/1.0.0", [{"text": "本文", "url": "u"}]))
    assert (document.source, document.license, document.url) == ("notes", "unknown", "u")


@pytest.fixture
def corpus(tmp_path):
    """A corpus of ours."""
    given = [Document(str(i), f"文書{i}", "s", "CC0-1.0", f"u{i}") for i in range(20)]
    dataset.write(given, tmp_path / "corpus", 0.3)
    return tmp_path / "corpus", given


def test_our_corpus_is_read_back_train_first(corpus):
    folder, given = corpus
    train = [document for document in given if dataset.split_of(document.text, 0.3) == "train"]
    validation = [document for document in given if document not in train]
    assert read(folder) == train + validation and train and validation


def test_broken_dataset_folders(tmp_path):
    with pytest.raises(ValueError, match=r"without features\.json .*give a TFDS folder"):
        read(tmp_path)
    with pytest.raises(ValueError, match=r"in the format tfrecord, .*prepare it again with .*file_format='array_record'"):
        read(prepare(tmp_path / "wikipedia/20230601.ja/1.0.0", ARTICLES, suffix="tfrecord"))
    with pytest.raises(ValueError, match=r"has 1 features and .*feature 'text'"):
        read(prepare(tmp_path / "x/y/1.0.0", [{"body": "x"}]))
    folder = prepare(tmp_path / "x/y/2.0.0", ARTICLES)
    (shard,) = folder.glob("*train*")
    shard.write_bytes(b"")
    with pytest.raises(ValueError, match=r"2\.0\.0 is not a whole TFDS folder \(.*download or prepare it again"):
        read(folder)
    shard.unlink()
    with pytest.raises(ValueError, match=r"2\.0\.0 is not a whole TFDS folder \(.*download or prepare it again"):
        read(folder)
    (folder / "features.json").write_text("{")
    with pytest.raises(ValueError, match=r"2\.0\.0 is not a whole TFDS folder"):
        read(folder)


def test_parts_are_the_whole(files, corpus):
    (files / "many.jsonl.zst").write_bytes(zst(MANY))
    (files / "dump.xml.bz2").write_bytes(bz2.compress(DUMP))
    (files / "oscar.jsonl").write_bytes((json.dumps(OSCAR) + "\n").encode() * 5)
    pyarrow.parquet.write_table(pyarrow.table({"text": [str(i) for i in range(2500)]}), files / "many.parquet", row_group_size=7)
    paths = [path for path in files.iterdir() if path.is_file()] + [
        corpus[0], prepare(files / "wikipedia/20230601.ja/1.0.0", ARTICLES)]
    for path in paths:
        whole = read(path)
        for parts in (2, 3):
            shares = [read(path, part, parts) for part in range(parts)]
            assert shares == [whole[part::parts] for part in range(parts)], path


def test_find_takes_a_dataset_folder_for_one_thing(files):
    folder = prepare(files / "wikipedia/20230601.ja/1.0.0", ARTICLES)
    for pattern in (folder, f"{folder}/", files / "wikipedia/*/*", files / "wikipedia/**"):
        assert sources.find(str(pattern)) == [folder]
    assert sources.find(f"{files}/**") == sorted([*files.glob("a.*"), folder])
    with pytest.raises(FileNotFoundError, match=r"no file matches .*TFDS folder"):
        sources.find(str(folder.parent))
    assert len(list(sources.documents(CorpusConfig(files=f"{files}/a.jsonl,{folder}")))) == 2 + 4


def test_fingerprint_follows_every_file_of_a_dataset_folder(tmp_path):
    folder = prepare(tmp_path / "a/b/1.0.0", ARTICLES)
    config = CorpusConfig(files=str(folder))
    before = sources.fingerprint(config)
    assert before == sources.fingerprint(config)
    (shard,) = folder.glob("*train*")
    moved = shard.rename(folder / "renamed")
    assert before != sources.fingerprint(config)
    moved.rename(shard)
    assert before == sources.fingerprint(config)
    (folder / "features.json").write_text((folder / "features.json").read_text() + " ")
    assert before != sources.fingerprint(config)

"""Texts with marked entities: both formats, and errors that show nothing of a text."""

import gzip
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slm.tasks import annotated
from slm.text.spans import Span

TEXT = "秘密の肺炎と胸水"
PNEUMONIA, EFFUSION = ({"start": 3, "end": 5, "label": "positive"}, {"start": 6, "end": 8, "label": "negative"})


def lines(*rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


def test_json_lines_plain_and_compressed(tmp_path):
    content = lines({"text": TEXT, "entities": [EFFUSION, PNEUMONIA]},
                    {"text": "なし", "entities": [], "id": 7, "document": "p1"}).replace("\n", "\n\n", 1)
    (tmp_path / "notes.jsonl").write_text(content)
    (tmp_path / "notes.jsonl.gz").write_bytes(gzip.compress(content.encode()))
    first, second = annotated.read(tmp_path / "notes.jsonl")
    assert first == annotated.AnnotatedText(
        "notes:0", TEXT, (Span(3, 5, "positive"), Span(6, 8, "negative")), document=TEXT)
    assert second == annotated.AnnotatedText("7", "なし", (), document="p1")
    assert annotated.read(tmp_path / "notes.jsonl.gz") == (first, second)
    item = annotated.item(first)
    assert (item.id, item.question, item.answer, item.document) == (
        "notes:0", TEXT, ("3-5:positive", "6-8:negative"), TEXT)
    assert annotated.spans(item.answer) == first.entities


def test_a_table_in_the_encoding_of_a_hospital(tmp_path):
    cell = json.dumps([PNEUMONIA]).replace('"', '""')
    (tmp_path / "notes.csv").write_text(f'text,entities,id\n"{TEXT}","{cell}",\nなし,[],b\n', encoding="cp932")
    assert annotated.read(tmp_path / "notes.csv") == (
        annotated.AnnotatedText("notes:0", TEXT, (Span(3, 5, "positive"),), TEXT),
        annotated.AnnotatedText("b", "なし", (), "なし"))


@settings(max_examples=30)
@given(st.integers(0, 10**9 - 1), st.integers(0, 10**9 - 1), st.text(min_size=1))
def test_a_span_is_written_and_parsed(start, end, label):
    assert annotated.parse_span(annotated.write_span(Span(start, end, label))) == Span(start, end, label)


@pytest.mark.parametrize("written", ["", "1-2", "1-2:", "-1-2:x", "1.0-2:x", "秘密"])
def test_what_is_no_span_is_refused(written):
    with pytest.raises(ValueError, match=rf"of {len(written)} characters is no span: write START-END:LABEL") as error:
        annotated.parse_span(written)
    assert "秘密" not in str(error.value)


def row(**changes):
    return lines({"text": TEXT, "entities": [PNEUMONIA]} | changes)


@pytest.mark.parametrize("content, message", [
    ("", "has no texts"),
    ("秘密\n", "line 1 is not JSON"),
    ("[" * 100_000, "line 1 is not JSON"),
    ('["秘密"]\n', "line 1 holds a list, not an object"),
    (row() + row(text=None), "line 2 has no text"),
    (row(text=""), "line 1 has no text"),
    (row(entities=None), "line 1 has no list of entities"),
    (row(entities=["秘密"]), "line 1, entity 0 is a str"),
    (row(entities=[PNEUMONIA, {"start": "6", "end": 8, "label": "x"}]), "line 1, entity 1 has no whole number as start"),
    (row(entities=[{"start": 3, "end": True, "label": "x"}]), "entity 0 has no whole number as end"),
    (row(entities=[PNEUMONIA | {"label": " "}]), "entity 0 has no label"),
    (row(entities=[PNEUMONIA | {"end": 9}]), "line 1 has an entity at 3-9, the text has 8 characters"),
    (row(entities=[PNEUMONIA | {"start": -1}]), "entity at -1-5"),
    (row(entities=[PNEUMONIA | {"end": 3}]), "entity at 3-3"),
    (row(entities=[EFFUSION, PNEUMONIA | {"end": 7}]), "line 1 has overlapping entities, 3-7 and 6-8"),
    (row(entities=[PNEUMONIA, PNEUMONIA]), "overlapping entities, 3-5 and 3-5"),
    (row(id=1.5), "line 1 has a field id that is empty or of type float"),
    (row(document=None), "field document that is empty or of type NoneType"),
    (row(id="a") + "\n" + row(id="a"), "line 3 has the same id as .*, line 1: give each"),
    (row(text="\ud800" + TEXT), "line 1 has half of a surrogate pair"),
])
def test_errors_name_the_line_and_show_no_text(tmp_path, content, message):
    (tmp_path / "notes.jsonl").write_text(content)
    with pytest.raises(ValueError, match=message) as error:
        annotated.read(tmp_path / "notes.jsonl")
    assert str(tmp_path / "notes.jsonl") in str(error.value)
    assert "秘密" not in str(error.value) and "肺炎" not in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("content, message", [
    ("text,label\n秘密,x\n", "no column entities among the 2"),
    ("text,entities\n秘密,x\n", "row 0 has no JSON list in the column entities"),
    ('text,entities\nなし,[]\n秘密,\n', "row 1 has no JSON list"),
    ("text,entities\n秘密,{}\n", "row 0 has no list of entities"),
])
def test_bad_tables_are_named_without_a_cell(tmp_path, content, message):
    (tmp_path / "notes.csv").write_text(content)
    with pytest.raises(ValueError, match=message) as error:
        annotated.read(tmp_path / "notes.csv")
    assert "秘密" not in str(error.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"notes\.jsonl is missing: give the path of JSON Lines"):
        annotated.read(tmp_path / "notes.jsonl")

"""Tables of your own: encodings of a hospital, and errors that show no cell."""

import pytest

from slm.tasks import tables

ROWS = "question,optionA,optionB,answer\n血圧は高いか,はい,いいえ,A\n"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp932", "utf-16"])
def test_a_table_in_the_encodings_of_a_hospital(tmp_path, encoding, capsys):
    (tmp_path / "a.csv").write_text(ROWS, encoding=encoding)
    (item,) = tables.read(tmp_path / "a.csv", "choice")
    assert (item.question, item.options, item.answer) == ("血圧は高いか", (("A", "はい"), ("B", "いいえ")), ("A",))
    name = {"cp932": "CP932", "utf-16": "UTF-16"}.get(encoding, "")
    assert capsys.readouterr().err == (f"{tmp_path}/a.csv is not UTF-8: it is read as {name}\n" if name else "")


@pytest.mark.parametrize("kind, content, message", [
    ("choice", ROWS.split("\n")[1], r"no column question, answer, optionA, optionB among the 4 of its first line"),
    ("choice", ROWS.replace(",A\n", ",秘密の答え\n"), r"row 0 has an answer of 5 characters, .*options, A, B: write one"),
    ("extraction", "question,answer\n秘密の問い,秘密の答え\n", r"row 0 has an answer of 5 characters, which is not a Python list"),
    ("choice", ROWS + '"秘密' + "秘" * 10_000_001, r"is not CSV after line 2 .*at most 10,000,000 characters"),
    ("choice", ROWS.encode() + b"\xe3\x81\n", r"line 3 is neither UTF-8 \(byte 0xE3\) nor CP932: convert it"),
])
def test_bad_tables_are_named_without_a_cell(tmp_path, kind, content, message):
    (tmp_path / "a.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=message) as error:
        tables.read(tmp_path / "a.csv", kind)
    assert "秘密" not in str(error.value) and "血圧" not in str(error.value)

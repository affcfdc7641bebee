"""Rows of benchmark files as text, whatever their shape."""

import json

import pytest

from slm.corpus import benchmark_rows


def test_every_text_of_a_row_in_order(tmp_path):
    (tmp_path / "a.csv").write_text("tag,question,optionA,answer\n病,症状は何か。,発熱,A\n", encoding="utf-8-sig")
    row = {"problem_text": "次のうち正しいのはどれか。", "choices": ["咳", "発熱"], "answer": ["a"], "meta": {"note": "注記"}}
    (tmp_path / "b.jsonl").write_text(json.dumps(row, ensure_ascii=False) + "\n\n", encoding="utf-8")
    found = list(benchmark_rows.rows(f"{tmp_path}/*.csv,{tmp_path}/*.jsonl"))
    # One letter is an answer, no text.
    assert found == [(f"{tmp_path.name}/a.csv", "症状は何か。\n発熱"),
                     (f"{tmp_path.name}/b.jsonl", "次のうち正しいのはどれか。\n発熱\n注記")]


def test_tables_of_a_hospital_and_arrays(tmp_path):
    (tmp_path / "a.csv").write_bytes("質問\n血圧はいくつか\n".encode("utf-16"))
    (tmp_path / "b.json").write_text(json.dumps([{"q": "第一"}, {"q": "第二"}], indent=1), encoding="utf-8")
    assert [text for _, text in benchmark_rows.rows(f"{tmp_path}/a.csv,{tmp_path}/b.json")] == ["血圧はいくつか", "第一", "第二"]


@pytest.mark.parametrize("name, content, message", [
    ("a.csv", "質問\nはい".encode("cp932") + b"\xff", r"a\.csv, line 1 is neither UTF-8 \(byte 0x8E\) nor CP932"),
    ("a.jsonl", b'{"text": ', r"a\.jsonl, line 1 is not JSON"),
    ("a.jsonl", b'{"text": ' + b'{"a":' * 960 + b'"xx"' + b"}" * 961, r"a\.jsonl.* is not (?:JSON|a benchmark file)"),
    ("a.csv", b'question\n"' + b"a" * 10_000_001, r"a\.csv is not a benchmark file .*quotation marks"),
    ("a.csv", b"answer\nA\n", r"a\.csv holds no text"),
    ("a.txt", b"text", r"a\.txt has no known format"),
])
def test_bad_files_are_named(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        list(benchmark_rows.rows(str(tmp_path / name)))

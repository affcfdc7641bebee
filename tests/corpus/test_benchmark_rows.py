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


@pytest.mark.parametrize("name, content, message", [
    ("a.csv", "質問\nはい".encode("cp932"), r"a\.csv is not a benchmark file"),
    ("a.jsonl", b'{"text": ', r"a\.jsonl is not a benchmark file"),
    ("a.csv", b"answer\nA\n", r"a\.csv holds no text"),
    ("a.txt", b"text", r"a\.txt has no known format"),
])
def test_bad_files_are_named(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        list(benchmark_rows.rows(str(tmp_path / name)))

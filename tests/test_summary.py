import json

import pytest

from slm.report import summary


def test_the_table_shows_what_each_run_made(tmp_path, capsys):
    samples = tmp_path / "samples.jsonl"
    samples.write_text(json.dumps({"prompt": "患者は", "text": "発熱\nした"}, ensure_ascii=False) + "\n")
    results = {
        "corpus": {"documents_out": 1234, "bytes_out": 4_000_000, "dropped": {"duplicate": 2}, "corpus": "C"},
        "tokenizer": {"vocabulary_size": 8000, "tokenizer": "T", "comparison": {
            "morphemes": {"characters_per_token": 1.5, "frequent_morphemes_whole": 0.98}}},
        "pretrain": {"parameters": 10, "tokens": 20, "tokens_per_second": 3.0, "checkpoints": "P",
                     "first_validation_bits_per_byte": 2.5, "validation_bits_per_byte": 1.5},
        "generate": {"samples": str(samples)},
        "sft": {"runs": [{"workdir": "S"}], "provenance": {"protocol": "P2"}, "validation_loss": 1.25},
        "evaluate": {"own_task": {"metrics": {"kappa": {"value": 0.5, "low": 0.25, "high": 0.75}},
                                  "baseline": {"kappa": 0.125}}}}
    for name, result in results.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "result.json").write_text(json.dumps(result))
    summary.main(str(tmp_path))
    out = capsys.readouterr().out
    for expected in ("1,234 documents, 4.0 MB, dropped 2", "8,000 pieces", "1.500 characters per token", "98.0%",
                     "2.500 bits per byte", "1.500 bits per byte", "1 model, protocol P2",
                     "loss 1.250", "kappa 0.500 [0.250, 0.750], baseline 0.125", "患者は→発熱 した", "advice"):
        assert expected in out


def test_an_empty_folder_is_an_error(tmp_path):
    with pytest.raises(SystemExit, match=r"no result\.json under"):
        summary.main(str(tmp_path))

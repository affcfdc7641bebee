"""The card and the figure of a corpus, from a report."""

import dataclasses
import re

from slm.corpus import data_card, proportions
from slm.corpus.sources import CorpusConfig, SourceConfig

REPORT = {
    "documents_in": 10, "documents_out": 7, "characters_in": 1000, "characters_out": 700, "bytes_out": 2100,
    "documents_train": 6, "documents_validation": 1, "dropped": {"short": 2, "duplicate": 1},
    "examples": {"short": ["短い|文"]}, "masked": {"phone": 3}, "contaminated": {},
    "by_source": {"百科事典": {"documents_in": 6, "characters_in": 600, "documents_out": 4, "characters_out": 400},
                  "notes": {"documents_in": 4, "characters_in": 400, "documents_out": 3, "characters_out": 300}},
    "licenses": {"CC-BY-SA-4.0": 4, 'odd "name"': 3},
    "steps": [{"step": "read", "documents_in": 10, "documents_out": 10, "characters_in": 1000, "seconds": 0.1},
              {"step": "mask", "seconds": 0.2}],
}
CONFIG = CorpusConfig(curated=True, sources=(SourceConfig("百科事典", "a.jsonl", weight=2.0), SourceConfig("notes", "b")))


def test_card_says_what_the_report_holds():
    card = data_card.card(REPORT, dataclasses.replace(CONFIG, excerpts=True))
    assert card.startswith("---\nlanguage: [ja]\n") and '- "odd \\"name\\""' in card.split("---")[1]
    assert "| 百科事典 | 6 | 4 | 600 | 400 | 2 |" in card
    assert "| short | 2 | 20.00% | 短い¦文 |" in card
    assert "| phone | 3 |" in card and "No decontamination was run" in card


def test_the_card_quotes_no_document_unless_it_is_asked():
    card = data_card.card(REPORT, CONFIG)
    assert "| short | 2 | 20.00% |\n" in card and "短い" not in card and "for example" not in card


def test_tables_are_regular():
    for block in re.findall(r"(?:^\|.*\n)+", data_card.card(REPORT, CONFIG), re.MULTILINE):
        assert len({line.count("|") for line in block.splitlines()}) == 1


def test_figure_is_written(tmp_path):
    proportions.draw(tmp_path, {"百科事典": 400, "notes": 300}, {f"reason_{i}": i for i in range(20)}, 500)
    assert (tmp_path / "proportions.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (tmp_path / "proportions.svg").read_text(encoding="utf-8")
    assert proportions._largest({"a": 1, "b": 5, "c": 3}, most=2) == {"b": 5, "other": 4}

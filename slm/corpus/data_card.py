"""The data card of a curated corpus, in Hugging Face's Markdown."""

import json
from pathlib import Path

from slm.corpus import proportions
from slm.corpus.sources import CorpusConfig
from slm.files import markdown_table, write_text


def write(folder: Path, report: dict, config: CorpusConfig) -> None:
    """Writes the card, `README.md`, and the figure of proportions from the pipeline's report."""
    characters = {name: source["characters_out"] for name, source in report["by_source"].items()}
    proportions.draw(folder, characters, report["dropped"], report["documents_in"])
    write_text(folder / "README.md", card(report, config))


def card(report: dict, config: CorpusConfig) -> str:
    """The card as text."""
    licenses = "\n".join(f"  - {json.dumps(name, ensure_ascii=False)}" for name in sorted(report["licenses"]))
    sections = [
        f"""---
language: [ja]
task_categories: [text-generation]
tags: [medical, pretraining]
license: other
source_licenses:
{licenses}
---
# A corpus for Japanese clinical language models

{report["documents_out"]:,} documents, {report["characters_out"]:,} characters, {report["bytes_out"] / 1e6:,.1f} MB of
UTF-8, out of {report["documents_in"]:,} documents read; {report["documents_train"]:,} for training and
{report["documents_validation"]:,} for validation, split by a hash of the text. Built by `slm`; all counts are in
`report.json`. A TFDS dataset in ArrayRecord: `tfds.builder_from_directory(FOLDER).as_data_source("train")`.

![proportions](proportions.png)

Fields: `id`, `text`, `source`, `license`, `url`, `quality` (a classifier's score, NaN without one). Each document keeps
the licence of its source. Documents whose source is `textbooks` or begins with `sample-` are synthetic and not
clinically verified. Nothing in this corpus is medical advice.""",
        "## By source\n\n" + markdown_table(
            ["source", "documents in", "out", "characters in", "out", "weight"],
            [[_cell(name), f"{part['documents_in']:,}", f"{part['documents_out']:,}", f"{part['characters_in']:,}",
              f"{part['characters_out']:,}", f"{config.weights.get(name, 1):g}"]
             for name, part in report["by_source"].items()]),
        "## By step\n\n" + markdown_table(
            ["step", "documents in", "dropped", "characters in", "seconds of one core"],
            [[step["step"], f"{step['documents_in']:,}", f"{step['documents_in'] - step['documents_out']:,}",
              f"{step['characters_in']:,}", f"{step['seconds']:,.1f}"]
             for step in report["steps"] if "documents_in" in step]),
        "## Dropped\n\n" + (markdown_table(
            ["reason", "documents", "share of all read", *["for example"] * config.excerpts],
            [[reason, f"{count:,}", f"{count / max(1, report['documents_in']):.2%}",
              *[_cell((report["examples"].get(reason) or [""])[0][:60])] * config.excerpts]
             for reason, count in report["dropped"].items()])
            if report["dropped"] else "Nothing was dropped."),
        "## Personal information\n\n" + (markdown_table(
            ["kind", "masked"], [[kind, f"{count:,}"] for kind, count in sorted(report["masked"].items())])
            if report["masked"] else "None was found." if config.mask else "Masking was switched off."),
        "## Benchmarks\n\n" + (
            "No decontamination was run: no benchmark was named (corpus.benchmarks)." if not config.benchmarks else
            "No document held an item of the named benchmarks." if not report["contaminated"] else
            "Documents that held an item were dropped.\n\n" + markdown_table(
                ["benchmark", "documents"],
                [[_cell(name), f"{count:,}"] for name, count in report["contaminated"].items()])),
        "## Licences\n\n" + markdown_table(["licence", "documents"], [[_cell(name), f"{count:,}"] for name, count in
                                                             sorted(report["licenses"].items())]),
        "## Limits\n\nThe project's docs/LOG.md measures the rules and masks; what they miss stays in the text. "
        "Personal information in free prose without a title, label or age next to it is not found. Names stay in "
        "documents about public persons (encyclopedias, literature, textbooks).",
    ]
    return "\n\n".join(sections) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "¦").replace("\n", " ")

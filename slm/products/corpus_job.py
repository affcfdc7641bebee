"""The corpus job: builds a corpus and prints its report."""

import dataclasses
import json
from pathlib import Path

from slm import files, process
from slm.corpus.dataset import REPORT_FILE
from slm.corpus.sources import CorpusConfig
from slm.products import build

# They are in the report and the card.
_LONG = ("examples", "steps", "contaminated_documents", "dropped_characters", "dropped_templates")


@dataclasses.dataclass(frozen=True)
class CorpusJobConfig:
    """The corpus job."""
    job: str = "corpus"
    variant: str = "sample"
    corpus: CorpusConfig = CorpusConfig()

    def __post_init__(self):
        if self.variant == "files" and not self.corpus.files:
            raise ValueError("configs/corpus.py:files needs your files: give --config.corpus.files='DIR/*.jsonl.gz'")


def run(config: CorpusJobConfig, workdir: Path) -> dict:
    folder = build.corpus(config.corpus)
    report = files.read_json(folder / REPORT_FILE)
    print(json.dumps({key: value for key, value in report.items() if key not in _LONG}, indent=2, ensure_ascii=False))
    if config.corpus.curated:
        print(f"{folder}/README.md is its data card; other jobs read it with the same --config.corpus settings, "
              "curated=true among them")
    return {**report, "corpus": str(folder), "seconds": process.seconds()}

"""The tokenizer job: builds a tokenizer and prints a table that compares it with simpler ones."""

import dataclasses
from pathlib import Path

from slm import files, process
from slm.corpus.sources import CorpusConfig
from slm.products import build
from slm.tokenization.vocabulary import VocabularyConfig


@dataclasses.dataclass(frozen=True)
class TokenizerJobConfig:
    """The tokenizer job."""
    job: str = "tokenizer"
    variant: str = "sample"
    corpus: CorpusConfig = CorpusConfig()
    tokenizer: VocabularyConfig = VocabularyConfig()
    compare: bool = True  # trains two more tokenizers, which are measured and discarded


def run(config: TokenizerJobConfig, workdir: Path) -> dict:
    folder = build.tokenizer(config.tokenizer, config.corpus)
    result = {"tokenizer": str(folder), "vocabulary_size": config.tokenizer.size}
    if config.compare:
        from slm.tokenization import comparison
        ipadic_alone = dataclasses.replace(config.tokenizer, lexicons="none")
        rows = comparison.compare(config.tokenizer, build.segmented(ipadic_alone, config.corpus),
                                  build.dictionary(config.tokenizer), folder)
        table = comparison.markdown(rows)
        files.write_text(workdir / "comparison.md", table + "\n")
        print(table)
        result["comparison"] = {label: dataclasses.asdict(measures) for label, measures in rows.items()}
    return {**result, "seconds": process.seconds()}

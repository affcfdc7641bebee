"""The tokenizer comparison on real text: 8,000 and 32,768 pieces, measured on held-out licensing examinations.

    .venv/bin/python -m benchmarks.tokenizers --text='DATA/text/*.jsonl.gz' \\
        --exams='DATA/IgakuQA/data/*/*[A-F].jsonl' \\
        --lexicons=DATA/lexicon/manbyo_diseases.txt.gz,DATA/lexicon/mhlw_drugs.txt

The tokenizers are trained on the text; the terms are the 2,000 commonest of the lexicons in the examinations. Products
go to runs/products of the current folder.
"""

import argparse
import json
from collections.abc import Iterator

from slm.corpus import sources
from slm.corpus.sources import CorpusConfig
from slm.products import build
from slm.text.normalize import normalize
from slm.tokenization import comparison
from slm.tokenization.vocabulary import VocabularyConfig


def examinations(pattern: str) -> Iterator[str]:
    """Question and choices of each IgakuQA item, normalised."""
    for path in sources.find([pattern]):
        for line in path.read_text(encoding="utf-8").splitlines():
            item = json.loads(line)
            yield normalize("\n".join([item["problem_text"], *item["choices"]]))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("text", "exams", "lexicons"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--sizes", default="8000,32768")
    flags = parser.parse_args()
    corpus, exams = CorpusConfig(files=flags.text), list(examinations(flags.exams))
    for size in map(int, flags.sizes.split(",")):
        config = VocabularyConfig(size=size, lexicons=flags.lexicons)
        ipadic_alone = VocabularyConfig(size=size, lexicons="none")
        folder = build.tokenizer(config, corpus)
        rows = comparison.compare(config, build.segmented(ipadic_alone, corpus), build.dictionary(config), folder,
                                  exams)
        print(f"\n{size:,} pieces, {sum(map(len, exams)):,} characters of examinations\n\n{comparison.markdown(rows)}",
              flush=True)


if __name__ == "__main__":
    main()

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

from slm import jobs
from slm.corpus import comparison, sources
from slm.corpus.sources import CorpusConfig
from slm.corpus.vocabulary import VocabularyConfig
from slm.text.normalize import normalize


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
        folder = jobs.tokenizer(config, corpus)
        rows = comparison.compare(config, jobs.segmented(ipadic_alone, corpus), jobs.dictionary(config), folder, exams)
        print(f"\n{size:,} pieces, {sum(map(len, exams)):,} characters of examinations\n\n{comparison.markdown(rows)}",
              flush=True)


if __name__ == "__main__":
    main()

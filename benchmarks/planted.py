"""What the corpus pipeline finds of planted copies and planted benchmark items.

    .venv/bin/python -m benchmarks.planted --shared=../shared/data

Copies: 300 Wikipedia articles with up to a half of their morphemes replaced by others of the same texts; the share
that MinHash pairs with its original, beside what the bands promise for the overlap each pair really has. Items: the
1,200 IgakuQA questions put into Wikipedia articles whole, with labelled choices, re-punctuated, and cut to a half; and
what is found in text without any.
"""

import argparse
import glob
import json
import random
import re
from pathlib import Path

import numpy as np
from datatrove.pipeline.dedup.minhash import MinhashDedupSignature

from slm.corpus import benchmark_rows, duplicates, sources
from slm.text.contamination import Index
from slm.text.morphology import Morphology
from slm.text.normalize import normalize
from slm.text.segmented_text import SegmentedText


def copies(articles: list[str], morphology: Morphology) -> None:
    rng = random.Random(0)
    cut = [morphology.split(text[:6000]) for text in articles[:300]]
    pool = [morpheme for morphemes in cut for morpheme in morphemes]
    signer = MinhashDedupSignature("unused", duplicates.CONFIG, language=duplicates.MeCabTokenizer())
    print("| morphemes replaced | overlap of 5-grams (Jaccard) | promised by the bands | found |")
    print("|---:|---:|---:|---:|")
    for edits in (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5):
        found, promised, overlaps = 0, 0.0, []
        for morphemes in cut:
            edited = [rng.choice(pool) if rng.random() < edits else morpheme for morpheme in morphemes]
            grams = [np.unique(SegmentedText("".join(part), morphology).ngrams(5)) for part in (morphemes, edited)]
            overlap = len(np.intersect1d(*grams)) / len(np.union1d(*grams))
            bands = [signer.get_signature(part.reshape(-1, 1)) for part in grams]
            found += any(one == other for one, other in zip(*bands))
            promised += 1 - (1 - overlap**8) ** 14
            overlaps.append(overlap)
        print(f"| {edits:.0%} | {np.mean(overlaps):.3f} | {promised / len(cut):.1%} | {found / len(cut):.1%} |",
              flush=True)


def items(shared: Path, clean: dict[str, list[str]]) -> None:
    rng, hosts = random.Random(0), clean["Wikipedia"]
    patterns = f"{shared}/IgakuQA/data/*/*[A-F].jsonl,{shared}/JMED-LLM/datasets/**/*.csv"
    index = Index.build(benchmark_rows.rows(patterns))
    exams = [json.loads(line) for path in sorted(glob.glob(f"{shared}/IgakuQA/data/*/*[A-F].jsonl"))
             for line in Path(path).read_text(encoding="utf-8").splitlines()]

    def half(text: str) -> str:
        start = rng.randrange(len(text) // 2 + 1)
        return text[start:start + (len(text) + 1) // 2]

    def punctuated(text: str) -> str:
        return re.sub("[、。,.]", lambda match: rng.choice(["、", "。", ",", "・", " ", ""]), text)

    changes = {
        "whole": lambda item: "\n".join([item["problem_text"], *item["choices"]]),
        "choices labelled": lambda item: item["problem_text"] + "".join(
            f"\n{label}. {choice}" for label, choice in zip("abcdefghij", item["choices"])),
        "re-punctuated": lambda item: punctuated(changes["whole"](item)),
        "cut to a half": lambda item: half(changes["whole"](item)),
        "cut and re-punctuated": lambda item: punctuated(half(changes["whole"](item)))}
    print("\n| planted item | found |\n|---|---:|")
    for name, change in changes.items():
        found = 0
        for number, item in enumerate(exams):
            host = hosts[number % len(hosts)]
            place = rng.randrange(len(host))
            found += index.find(normalize(f"{host[:place]}\n{change(item)}\n{host[place:]}")) is not None
        print(f"| {name} | {found / len(exams):.1%} |", flush=True)
    print("\n| text without items | documents | found |\n|---|---:|---:|")
    for name, texts in clean.items():
        found = sum(index.find(normalize(text)) is not None for text in texts)
        print(f"| {name} | {len(texts):,} | {found} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, required=True)
    shared = parser.parse_args().shared
    files = {"Wikipedia": "jaquad_wikipedia", "Wikipedia leads": "wikipedia_leads", "Aozora": "aozora_modern"}
    clean = {name: [document.text for document in sources.read(shared / "text" / f"{stem}.jsonl.gz")]
             for name, stem in files.items()}
    copies(clean["Wikipedia"], Morphology())
    items(shared, clean)


if __name__ == "__main__":
    main()

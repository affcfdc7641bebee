"""A table of what the runs under a folder made: `python -m slm.report.summary runs/demo`."""

import json
import sys
from pathlib import Path


def rows(folder: Path) -> list[tuple[str, str]]:
    """(what, how much) of each `result.json` under `folder`, in the order of the story."""
    results = {path.parent.name: json.loads(path.read_text(encoding="utf-8")) for path in folder.glob("*/result.json")}
    made = []
    if corpus := results.get("corpus"):
        made += [("corpus", f"{corpus['documents_out']:,} documents, {corpus['bytes_out'] / 1e6:.1f} MB, dropped "
                            f"{sum(corpus['dropped'].values())}"), ("", corpus["corpus"])]
    if tokenizer := results.get("tokenizer"):
        made += [("tokenizer", f"{tokenizer['vocabulary_size']:,} pieces")]
        made += [(f"  {label}", f"{row['characters_per_token']:.3f} characters a token, "
                                f"{row['frequent_morphemes_whole']:.1%} of common morphemes whole")
                 for label, row in tokenizer.get("comparison", {}).items()]
        made += [("", tokenizer["tokenizer"])]
    if model := results.get("pretrain"):
        made += [("model", f"{model['parameters']:,} parameters, {model['tokens']:,} tokens at "
                           f"{model['tokens_per_second']:,.0f} a second"),
                 ("  first validation", f"{model['first_validation_bits_per_byte']:.3f} bits per byte"),
                 ("  last validation", f"{model['validation_bits_per_byte']:.3f} bits per byte"),
                 ("", model["checkpoints"])]
    if samples := results.get("generate"):
        for line in Path(samples["samples"]).read_text(encoding="utf-8").splitlines():
            sample = json.loads(line)
            made += [("sample", f"{sample['prompt']}→{' '.join(sample['text'].split())[:90]}")]
        made += [("", samples["samples"])]
    if tuned := results.get("sft"):
        made += [("fine-tuned", f"{len(tuned['runs'])} model{'s' * (len(tuned['runs']) > 1)}, protocol "
                                f"{tuned['provenance']['protocol']}, validation loss {tuned['validation_loss']:.3f}")]
        made += [("", own["workdir"]) for own in tuned["runs"]]
    if leaderboard := results.get("evaluate"):
        for task, line in leaderboard.items():
            name, own = next(iter(line["metrics"].items()))
            baseline = line["baseline"].get(name)
            made += [(f"  {task}", f"{name} {own['value']:.3f} [{own['low']:.3f}, {own['high']:.3f}]"
                                   + ("" if baseline is None else f", baseline {baseline:.3f}"))]
        made += [("", str(folder / "evaluate" / "leaderboard.md"))]
    if export := results.get("export"):
        for kind, own in export["kinds"].items():
            if "bytes" in own:
                made += [("export", f"{kind}, {own['bytes'] / 1e6:.1f} MB, {own['bits_per_byte']:.3f} bits per byte "
                                    f"where the checkpoint takes {export['bits_per_byte']:.3f}"), ("", own["path"])]
        if export["proven"]:
            made += [("  proof in float32", f"logits differ by {export['max_logit_difference']:.1g}, "
                                            f"{export['greedy_agreement']:.0%} of greedy tokens agree")]
    return made


def main(folder: str) -> None:
    table = rows(Path(folder))
    if not table:
        sys.exit(f"error: no result.json under {folder}: run launch/laptop.sh first")
    print("\n".join(f"{what:34s}{how}" for what, how in table))
    print("\nNothing a model says is medical advice; the sample text is synthetic.")


if __name__ == "__main__":
    main(*sys.argv[1:])

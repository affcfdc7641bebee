"""A table of the results of the runs under a folder: `python -m slm.report.summary runs/demo`."""

import json
import sys
from pathlib import Path

from slm.files import read_json


def rows(folder: Path) -> list[tuple[str, str]]:
    """(name, value) pairs from each `result.json` under `folder`, in the order of the pipeline."""
    results = {path.parent.name: read_json(path) for path in folder.glob("*/result.json")}
    lines = []
    if corpus := results.get("corpus"):
        lines += [("corpus", f"{corpus['documents_out']:,} documents, {corpus['bytes_out'] / 1e6:.1f} MB, dropped "
                            f"{sum(corpus['dropped'].values())}"), ("", corpus["corpus"])]
    if tokenizer := results.get("tokenizer"):
        lines += [("tokenizer", f"{tokenizer['vocabulary_size']:,} pieces")]
        lines += [(f"  {label}", f"{row['characters_per_token']:.3f} characters per token, "
                                f"{row['frequent_morphemes_whole']:.1%} of common morphemes whole")
                 for label, row in tokenizer.get("comparison", {}).items()]
        lines += [("", tokenizer["tokenizer"])]
    if model := results.get("pretrain"):
        lines += [("model", f"{model['parameters']:,} parameters, {model['tokens']:,} tokens at "
                           f"{model['tokens_per_second']:,.0f} per second"),
                 ("  first validation", f"{model['first_validation_bits_per_byte']:.3f} bits per byte"),
                 ("  last validation", f"{model['validation_bits_per_byte']:.3f} bits per byte"),
                 ("", model["checkpoints"])]
    if samples := results.get("generate"):
        for line in Path(samples["samples"]).read_text(encoding="utf-8").splitlines():
            sample = json.loads(line)
            lines += [("sample", f"{sample['prompt']}→{' '.join(sample['text'].split())[:90]}")]
        lines += [("", samples["samples"])]
    if tuned := results.get("sft"):
        lines += [("fine-tuned", f"{len(tuned['runs'])} model{'s' * (len(tuned['runs']) > 1)}, protocol "
                                f"{tuned['provenance']['protocol']}, validation loss {tuned['validation_loss']:.3f}")]
        lines += [("", run["workdir"]) for run in tuned["runs"]]
    if leaderboard := results.get("evaluate"):
        for task, line in leaderboard.items():
            name, metric = next(iter(line["metrics"].items()))
            baseline = line["baseline"].get(name)
            lines += [(f"  {task}", f"{name} {metric['value']:.3f} [{metric['low']:.3f}, {metric['high']:.3f}]"
                                   + ("" if baseline is None else f", baseline {baseline:.3f}"))]
        lines += [("", str(folder / "evaluate" / "leaderboard.md"))]
    if export := results.get("export"):
        for quant_type, file in export["kinds"].items():
            if "bytes" in file:
                lines += [("export", f"{quant_type}, {file['bytes'] / 1e6:.1f} MB, {file['bits_per_byte']:.3f} bits "
                                    f"per byte, checkpoint {export['bits_per_byte']:.3f}"), ("", file["path"])]
        if export["proven"]:
            lines += [("  proof in float32", f"logits differ by {export['max_logit_difference']:.1g}, "
                                            f"{export['greedy_agreement']:.0%} of greedy tokens agree")]
    return lines


def main(folder: str) -> None:
    table = rows(Path(folder))
    if not table:
        sys.exit(f"error: no result.json under {folder}: run launch/laptop.sh first")
    print("\n".join(f"{name:34s}{value}" for name, value in table))
    print("\nNothing a model says is medical advice; the sample text is synthetic.")


if __name__ == "__main__":
    main(*sys.argv[1:])

"""The model card of an export, in Hugging Face's Markdown, from what the runs recorded."""

import json
from pathlib import Path
from typing import Any

from slm import checkpoint
from slm.files import markdown_table
from slm.tasks.benchmark import Provenance
from slm.workdir import read_config, read_result

NOT_ADVICE = "Nothing that this model says is medical advice"

# What other programs read wrongly without an error.
_UNGATED = {
    "hugging_face": "It is stored as a Llama's with `mlp_bias: true`, whose `up_proj` is 0 with a bias of 1, which is "
                    "exact. A program that ignores `mlp_bias` reads it without an error and computes MLPs of zero. In "
                    "training elsewhere freeze `up_proj` and the biases.",
    "gguf": "It is stored as a Llama's whose `ffn_up` is 0 with a bias of 1, which is exact in llama.cpp. transformers "
            "reads this file without an error, drops `ffn_up.bias` and computes MLPs of zero: give it the Hugging Face "
            "export instead."}


def card(source: Path, export: dict[str, Any]) -> str:
    """The card as text.

    Args:
      source: the workdir of the exported training.
      export: the export's result.json.
    """
    model = export["model"]
    about = checkpoint.read_about(source, export.get("checkpoint_step"))
    history = _history(source, about)
    header = {"language": ["ja"], "library_name": "transformers" if export["format"] == "hugging_face" else "gguf",
              "pipeline_tag": "text-generation", "license": "other", "tags": ["medical", "slm"]}
    lines = [f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in header.items()]
    mlp = "SwiGLU MLP (Llama)" if model["mlp"] == "swiglu" else "ungated MLP with SiLU (NCVC-slm-1)"
    sections = [
        "\n".join(["---", *lines, "---", f"# {export['name']}"]),
        f"A Japanese clinical language model of {export['parameters']:,} parameters: {model['layers']} layers of width "
        f"{model['width']}, {model['query_heads']} query and {model['kv_heads']} key heads, {mlp}, "
        f"{model['vocabulary_size']:,} pieces, {model['context']:,} tokens of context. Made by `slm`.",
        "## Intended use and limits\n\nResearch on clinical language models that run inside a hospital. It is not a "
        f"medical device. {NOT_ADVICE}: a qualified person must check all output before use. It may state falsehoods, "
        "omit what matters, and repeat its training text. Parts of that text may be synthetic (合成) and not "
        "clinically verified.",
        "## Training\n\n" + "\n".join(f"- {line}" for line in history),
        "## Tokenizer\n\n" + _tokenizer(export),
        "## Evaluation\n\n" + _evaluation(source),
        "## Is it the same model?\n\n" + _proof(export)]
    if model["mlp"] == "silu":
        sections.append("## In other programs\n\nThe model's MLP has no gate. " + _UNGATED[export["format"]])
    return "\n\n".join(sections) + "\n"


def _evaluation(source: Path) -> str:
    """The headline metric of each task, from evaluations whose workdirs are siblings of the training's."""
    rows = []
    for path in sorted({*source.parent.glob("*/config.json"), *source.parent.parent.glob("*/config.json")}):
        config = read_config(path.parent)
        if (config.get("job") != "evaluate" or config.get("backend") != "checkpoint"
                or Path(config["checkpoint"]) not in (source, source.parent)):
            continue
        for task, line in (read_result(path.parent) or {}).items():
            if isinstance(line, dict) and line.get("metrics"):
                metric, value = next(iter(line["metrics"].items()))
                baseline = line.get("baseline", {}).get(metric)
                if None in value.values():  # undefined, as kappa is for constant answers
                    continue
                rows.append([f"{task} ({config['benchmark']})", line["protocol"], line["readout"], str(line["seeds"]),
                             metric, f"{value['value']:.3f} [{value['low']:.3f}, {value['high']:.3f}]",
                             "–" if baseline is None else f"{baseline:.3f}"])
    if not rows:
        return "No evaluation exists beside its training."
    return ("Means over the seeds of its fine-tuning, with 95% intervals by a bootstrap over documents. The protocol "
            "says what was trained on before the test (P0 nothing of the benchmark, P1 all but the test rows, P2 no "
            "document of the test); the baseline is a cheap method under the same protocol.\n\n" + markdown_table(
                ["task", "protocol", "answer mode", "seeds", "metric", "value", "baseline"], rows))


def _tokenizer(export: dict[str, Any]) -> str:
    if "tokens_cut_otherwise_without_mecab" not in export:
        return ("The imported model's own, without MeCab. A control symbol spelled out in a message is read as one: "
                "remove `<|` from untrusted text.")
    return ("The model was trained on text segmented by MeCab (ipadic, and a user dictionary if any). Without MeCab "
            f"{export['tokens_cut_otherwise_without_mecab']:.2%} of the tokens of a text are split differently. "
            "Both tokenizers of the Hugging Face format, and slm's programs, spell rare characters as bytes; plain "
            f"llama.cpp reads them as unknown: {export['characters_without_a_piece']:.2%} of the characters of that "
            "text. The chat template keeps a control symbol spelled out in a message as text; in text that other "
            "programs tokenize without the template it is read as the symbol.")


def _proof(export: dict[str, Any]) -> str:
    if not export["proven"]:
        return "Not compared with the checkpoint (prove=false)."
    text = (f"The same prompts through the checkpoint and this export, in float32: the logits differ by at most "
            f"{export['max_logit_difference']:.2g} over {export['positions_compared']} positions, and "
            f"{export['greedy_agreement']:.0%} of {export['tokens_compared']} greedy tokens agree.")
    if "kinds" in export:
        text += (f" On that text the checkpoint takes {export['bits_per_byte']:.4f} bits per byte; part of it may have "
                 "been trained on, so only the difference is meaningful.\n\n"
                 + quantization_table(export["kinds"], export["bits_per_byte"]))
    return text.rstrip()


def quantization_table(types: dict[str, dict], checkpoint_bits_per_byte: float) -> str:
    """What each quantization type of an export costs, as Markdown."""
    return markdown_table(
        ["type", "MB", "bits per byte", "over the checkpoint", "largest logit difference", "greedy agreement"],
        [[name, f"{measured['bytes'] / 1e6:,.1f}" if "bytes" in measured else "not kept",
          f"{measured['bits_per_byte']:.4f}", f"{measured['bits_per_byte'] / checkpoint_bits_per_byte - 1:+.2%}",
          f"{measured['max_logit_difference']:.2g}", f"{measured['greedy_agreement']:.0%}"]
         for name, measured in types.items()])


def _history(source: Path, about: dict[str, Any]) -> list[str]:
    """What the model was trained on, the latest first, as far as its workdirs still exist."""
    config = about["config"]
    if config.get("job") == "sft":
        provenance = Provenance.of_checkpoint(about)
        sets = ", ".join(f"{own['name']} ({own['kind']})" for own in config["sets"])
        line = f"Fine-tuned, {about['step']} steps on {sets}; protocol {provenance.protocol}"
        if tasks := provenance.seen_of("jmed_llm"):
            line += f", trained on training rows of JMED-LLM's {', '.join(tasks)}"
        base = Path(about["base"]["path"])
        earlier = _history(base, checkpoint.read_about(base)) if (base / "checkpoints").exists() else [
            f"before that: {base}, whose record no longer exists"]
        return [line + ".", *earlier]
    if config.get("job") == "import_hugging_face":
        return [f"Imported from {config['folder']}; its earlier training is unknown."]
    corpus = config.get("corpus", {})
    parts = corpus.get("files") or ", ".join(part["name"] for part in corpus.get("sources", []))
    tokens = ""
    result = read_result(source) or {}
    if "tokens" in result and result.get("steps") == about["step"]:
        tokens = f" over {result['tokens']:,} tokens, {result['train_seconds'] / 3600:.1f} hours in its last session"
    return [f"{config.get('job', 'training').capitalize()}ed from random weights, {about['step']} steps{tokens}, on "
            f"{parts or 'unknown text'}; each source keeps its licence."]

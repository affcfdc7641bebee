"""The model card of an export, in Markdown as Hugging Face reads it, from what the runs recorded."""

import json
from pathlib import Path
from typing import Any

from slm import checkpoint
from slm.files import markdown_table
from slm.tasks.benchmark import Provenance

NOT_ADVICE = "Nothing that this model says is medical advice"


def card(source: Path, export: dict[str, Any]) -> str:
    """The card as text.

    Args:
      source: the workdir of the training that was exported.
      export: what the export records in its result.json.
    """
    model = export["model"]
    about = checkpoint.read_about(source, export.get("checkpoint_step"))
    history = _history(source, about)
    header = {"language": ["ja"], "library_name": "transformers" if export["format"] == "hugging_face" else "gguf",
              "pipeline_tag": "text-generation", "license": "other", "tags": ["medical", "slm"]}
    lines = [f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in header.items()]
    kind = "SwiGLU (Llama)" if model["mlp"] == "swiglu" else "two matrices with SiLU (NCVC-slm-1)"
    sections = [
        "\n".join(["---", *lines, "---", f"# {export['name']}"]),
        f"A Japanese clinical language model of {export['parameters']:,} parameters: {model['layers']} layers of width "
        f"{model['width']}, {model['query_heads']} query and {model['kv_heads']} key heads, an MLP of {kind}, "
        f"{model['vocabulary_size']:,} pieces, {model['context']:,} tokens of context. Made by `slm`.",
        "## Intended use and limits\n\nResearch on clinical language models that run inside a hospital. It is not a "
        f"medical device. {NOT_ADVICE}: a person who is qualified must check whatever is to be used. It may state what "
        "is false, leave out what matters, and repeat what it was trained on. Parts of its training text may be "
        "synthetic (合成) and not clinically verified.",
        "## Training\n\n" + "\n".join(f"- {line}" for line in history),
        "## Tokenizer\n\n" + _tokenizer(export),
        "## Evaluation\n\n" + _evaluation(source),
        "## Is it the same model?\n\n" + _proof(export)]
    return "\n\n".join(sections) + "\n"


def _evaluation(source: Path) -> str:
    """The first metric of each task, by the evaluations whose workdirs lie beside that of the training."""
    rows = []
    for path in sorted({*source.parent.glob("*/config.json"), *source.parent.parent.glob("*/config.json")}):
        config, result = json.loads(path.read_text(encoding="utf-8"))["config"], path.with_name("result.json")
        if (config.get("job") != "evaluate" or config.get("backend") != "checkpoint" or not result.exists()
                or Path(config["checkpoint"]) not in (source, source.parent)):
            continue
        for task, own in json.loads(result.read_text(encoding="utf-8")).items():
            if isinstance(own, dict) and own.get("metrics"):
                metric, value = next(iter(own["metrics"].items()))
                baseline = own.get("baseline", {}).get(metric)
                if None in value.values():  # undefined, as kappa of one answer
                    continue
                rows.append([f"{task} ({config['benchmark']})", own["protocol"], own["readout"], str(own["seeds"]),
                             metric, f"{value['value']:.3f} [{value['low']:.3f}, {value['high']:.3f}]",
                             "–" if baseline is None else f"{baseline:.3f}"])
    if not rows:
        return "None was found beside its training."
    return ("Means over the seeds of its fine-tuning, with 95% intervals by a bootstrap over documents. The protocol "
            "says what was learned before the test (P0 nothing of the benchmark, P1 all but the test rows, P2 no "
            "document of the test); the baseline is a cheap baseline under the same protocol.\n\n" + markdown_table(
                ["task", "protocol", "readout", "seeds", "metric", "value", "baseline"], rows))


def _tokenizer(export: dict[str, Any]) -> str:
    if "tokens_cut_otherwise_without_mecab" not in export:
        return "The one that the model was taken in with, without MeCab."
    return ("The model learned text that MeCab had cut (ipadic, and a user dictionary if there was one). Without MeCab "
            f"{export['tokens_cut_otherwise_without_mecab']:.2%} of the tokens of a text are cut otherwise. Both "
            "tokenizers of the Hugging Face format, and slm's own programs, spell rare characters as bytes; plain "
            f"llama.cpp reads them as unknown: {export['characters_without_a_piece']:.2%} of the characters of that "
            "text.")


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
    """What the model was trained on, the last first, as far as its workdirs are still here."""
    config = about["config"]
    if config.get("job") == "sft":
        provenance = Provenance.of_checkpoint(about)
        sets = ", ".join(f"{own['name']} ({own['kind']})" for own in config["sets"])
        line = f"Fine-tuned, {about['step']} steps on {sets}; protocol {provenance.protocol}"
        if tasks := provenance.seen_of("jmed_llm"):
            line += f", trained on training rows of JMED-LLM's {', '.join(tasks)}"
        base = Path(about["base"]["path"])
        earlier = _history(base, checkpoint.read_about(base)) if (base / "checkpoints").exists() else [
            f"before that: {base}, whose record is not here"]
        return [line + ".", *earlier]
    if config.get("job") == "import_hugging_face":
        return [f"Taken in from {config['folder']}; what it was trained on before is not known here."]
    corpus = config.get("corpus", {})
    parts = corpus.get("files") or ", ".join(part["name"] for part in corpus.get("sources", []))
    tokens = ""
    result = source / "result.json"
    if result.exists():
        told = json.loads(result.read_text(encoding="utf-8"))
        if "tokens" in told and told.get("steps") == about["step"]:
            tokens = f" over {told['tokens']:,} tokens, {told['train_seconds'] / 3600:.1f} hours in its last session"
    return [f"{config.get('job', 'training').capitalize()}ed from random weights, {about['step']} steps{tokens}, on "
            f"{parts or 'unknown text'}; each source keeps its licence."]

"""A pretrained encoder (BERT and its kin) fine-tuned with transformers: what label heads and decoders compete with.

    python -m benchmarks.encoder --model=FOLDER --data_dir=JMED-LLM --tasks=smdis,nrner --workdir=runs/encoder
    python -m benchmarks.encoder --model=FOLDER --data_dir=JMED-LLM --tasks=rrtnm --protocol=P1 --epochs=10

FOLDER holds config.json, safetensors and tokenizer; no model is downloaded, no code bundled with one is run. Choices:
the question is classified into its letters, with its options where they differ from row to row; a long one loses its
end. Extraction: begin or inside of a tag, or outside, the likeliest for each token; this needs a fast tokenizer, which
knows where its tokens are. A tenth of the training documents is held out to choose the epoch, then the test rows are
scored once. The baseline learns from the held-out rows too.
"""

import argparse
import dataclasses
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from slm.data import labelled
from slm.data.conversations import is_held_out
from slm.data.labelled import Window
from slm.files import markdown_table, write_json
from slm.model.presets import LabelGroup
from slm.tasks import jmed_llm
from slm.tasks.task import Task
from slm.text.spans import Span
from slm.train.held_out import HeldOut

_HELD_OUT, _BATCH, _LONGEST, _IGNORED = 0.1, 16, 512, -100

Example = tuple[list[int], list[int]]  # tokens; the class of the text, or of each token


class Encoder:
    """An encoder with a new head for a task."""

    def __init__(self, folder: Path, task: Task, seed: int):
        try:
            import torch
            import transformers
        except ImportError as error:
            raise RuntimeError(f"{folder} needs torch and transformers ({error}): pip install "
                               "'slm[hugging_face]'") from None
        if not any(folder.glob("*.safetensors")):
            raise FileNotFoundError(f"{folder} holds no safetensors: give a folder on this machine, and convert other "
                                    "weights")
        transformers.logging.set_verbosity_error()
        transformers.logging.disable_progress_bar()
        transformers.set_seed(seed)  # the head is drawn at random
        self._letters = sorted({letter for item in task.items for letter, _ in item.options})
        asked = {(item.tag, item.options) for item in task.items}
        self._with_options = len(asked) > len({tag for tag, _ in asked})
        self._group = labelled.groups((task,))[0] if task.kind == "extraction" else None
        auto, classes = ((transformers.AutoModelForTokenClassification, self._group.classes) if self._group else
                         (transformers.AutoModelForSequenceClassification, len(self._letters)))
        allowed: Any = {"local_files_only": True, "trust_remote_code": False}
        try:
            self._tokenizer = transformers.AutoTokenizer.from_pretrained(folder, **allowed)
            self._model, loaded = auto.from_pretrained(folder, num_labels=classes, use_safetensors=True,
                                                       dtype=torch.float32, output_loading_info=True, **allowed)
        except Exception as error:  # a broken file raises anything
            raise ValueError(f"{folder} is not an encoder that transformers can load "
                             f"({' '.join(str(error).split())[:300]}): give config.json, safetensors and tokenizer of "
                             "one model, as it was pretrained") from None
        # The head is new, and models that were trained to fill gaps have no pooler.
        if absent := sorted(name for name in loaded["missing_keys"] if ".pooler." not in name
                            and name.startswith(f"{self._model.base_model_prefix}.")):
            raise ValueError(f"{folder} lacks {len(absent)} tensors that its config.json asks for, {absent[0]} first: "
                             "give files of one model")
        if len(self._tokenizer) > (size := self._model.get_input_embeddings().num_embeddings):
            raise ValueError(f"{folder} has a tokenizer of {len(self._tokenizer)} tokens for a model of {size}: give "
                             "files of one model")
        if self._group and not self._tokenizer.is_fast:
            raise ValueError(f"{folder} has no fast tokenizer but {type(self._tokenizer).__name__}, which does not say "
                             "where tokens are in the text: give a model with tokenizer.json, or tasks of choices")
        positions = getattr(self._model.config, "max_position_embeddings", None) or _LONGEST + 2
        self._limit = min(_LONGEST, positions - 2, self._tokenizer.model_max_length)  # RoBERTa's begin at 2
        self._model.to("cuda" if torch.cuda.is_available() else "cpu")

    def fit(self, task: Task, epochs: int, learning_rate: float, score: Callable[[], float] | None) -> list[float]:
        """Trains; returns each epoch's score, and keeps the weights of the best (without a score of the last)."""
        import torch
        import transformers
        examples, scores, best = self._examples(task), [], {}
        steps = epochs * math.ceil(len(examples) / _BATCH)
        optimizer = torch.optim.AdamW(self._model.parameters(), learning_rate, weight_decay=0.01)
        schedule = transformers.get_linear_schedule_with_warmup(optimizer, steps // 10, steps)
        for epoch in range(epochs):
            for rows in torch.randperm(len(examples)).split(_BATCH):
                self._model.train()
                batch = [examples[row] for row in rows]
                targets = self._padded([classes for _, classes in batch], _IGNORED)
                loss = torch.nn.functional.cross_entropy(self._forward(batch).flatten(0, -2), targets.flatten(),
                                                         ignore_index=_IGNORED)
                if not torch.isfinite(loss):
                    raise ValueError(f"{task.name}: the loss is {loss.item()} in epoch {epoch + 1} with learning_rate="
                                     f"{learning_rate}: lower it, or copy the model again")
                optimizer.zero_grad()
                loss.backward()
                torch.nn.utils.clip_grad_norm_(self._model.parameters(), 1.0)
                optimizer.step()
                schedule.step()
            if score:
                scores.append(float(np.nan_to_num(score())))  # kappa is NaN where all is one class
                print(f"{task.name}: {scores[-1]:.3f} on held-out rows after epoch {epoch + 1}", file=sys.stderr)
                if scores[-1] > max(scores[:-1], default=-math.inf):
                    best = {name: tensor.clone() for name, tensor in self._model.state_dict().items()}
        if best:
            self._model.load_state_dict(best)
        return scores

    def answers(self, task: Task) -> list[Any]:
        """Of each item the likeliest letter among its own, or the entities as they are written in its text."""
        if not self._group:
            logits = self._logits([(ids, []) for ids in self._ids(task)])
            by_letter = [dict(zip(self._letters, of_item)) for of_item in logits]
            return [max(task.letters(item), key=lambda letter, of_item=of_item: of_item.get(letter, -math.inf))
                    for item, of_item in zip(task.items, by_letter)]
        answers, spans = [], {}
        for item in task.items:
            text, tag = labelled.read_text(self._group, item), labelled.tag_of(task, item)
            if text not in spans:  # which answers all tags
                cut = windows(self._tokenizer, text, self._limit)
                logits = self._logits([(window.ids, []) for window in cut])
                spans[text] = decode(self._group, [span for window in cut for span in window.spans],
                                     np.concatenate(logits).argmax(-1).tolist())
            entities = dict.fromkeys(text[start:end].strip() for start, end, label in spans[text] if label == tag)
            answers.append([entity for entity in entities if entity])
        return answers

    def _examples(self, task: Task) -> list[Example]:
        if self._group:
            learned = []
            for text in labelled.labelled(task, [self._group]):
                cut = windows(self._tokenizer, text.text, self._limit)
                # Together: an entity that a window cuts goes on in the next one.
                whole = Window([token for window in cut for token in window.ids],
                               [span for window in cut for span in window.spans])
                classes = labelled.tag_classes(self._group, whole, text.spans[labelled.SPANS])
                each = iter(chosen if end > start else _IGNORED for chosen, (start, end) in zip(classes, whole.spans))
                learned += [(window.ids, [next(each) for _ in window.ids]) for window in cut]
            return [example for example in learned if {*example[1]} != {_IGNORED}]
        return [(ids, [self._letters.index(item.answer[0])]) for ids, item in zip(self._ids(task), task.items)]

    def _ids(self, task: Task) -> list[list[int]]:
        """The tokens of each question."""
        texts = [item.question + "".join(f"\n{letter}. {text}" for letter, text in item.options * self._with_options)
                 for item in task.items]
        return self._tokenizer(texts, truncation=True, max_length=self._limit)["input_ids"]

    def _logits(self, examples: Sequence[Example]) -> list[np.ndarray]:
        """Of each example [classes], or [tokens, classes]."""
        import torch
        self._model.eval()
        results = []
        for start in range(0, len(examples), _BATCH):
            batch = examples[start:start + _BATCH]
            with torch.inference_mode():
                values = self._forward(batch).cpu().numpy()
            results += [value[:len(ids)] if self._group else value for value, (ids, _) in zip(values, batch)]
        return results

    def _forward(self, batch: Sequence[Example]) -> Any:
        ids = [ids for ids, _ in batch]
        return self._model(input_ids=self._padded(ids, self._tokenizer.pad_token_id or 0),
                           attention_mask=self._padded([[1] * len(row) for row in ids], 0)).logits

    def _padded(self, rows: Sequence[list[int]], fill: int) -> Any:
        import torch
        tensors = [torch.tensor(row, dtype=torch.long) for row in rows]
        return torch.nn.utils.rnn.pad_sequence(tensors, batch_first=True, padding_value=fill).to(self._model.device)


def windows(tokenizer: Any, text: str, limit: int) -> list[Window]:
    """A text as windows of at most `limit` tokens; special tokens have an empty span."""
    encoded = tokenizer([text], truncation=True, max_length=limit, return_overflowing_tokens=True,
                        return_offsets_mapping=True)
    return [Window(ids, spans) for ids, spans in zip(encoded["input_ids"], encoded["offset_mapping"])]


def decode(group: LabelGroup, tokens: Sequence[tuple[int, int]], classes: Sequence[int]) -> list[Span]:
    """The spans of a text's tokens, each as long as its label goes on without a new beginning."""
    spans: list[Span] = []
    before = -1
    for (start, end), chosen in zip(tokens, classes):
        if end > start:
            label = (chosen - 1) // 2  # -1: outside
            if chosen and label == before and chosen % 2 == 0:
                spans[-1] = spans[-1]._replace(end=end)
            elif chosen:
                spans.append(Span(start, end, group.labels[label]))
            before = label
    return spans


def split(task: Task) -> tuple[Task, Task]:
    """A task with the rows to learn from, and with those that choose the epoch, whole documents."""
    is_out = [is_held_out(item.document or item.question, _HELD_OUT) for item in task.items]
    learned, held_out = (dataclasses.replace(task, items=tuple(
        item for item, out in zip(task.items, is_out) if out == wanted)) for wanted in (False, True))
    if not learned.items:
        raise ValueError(f"{task.name} has none of its {len(task.items)} rows to learn from: leave it out")
    return learned, held_out


def run(arguments: argparse.Namespace, name: str) -> dict[str, Any]:
    """Trains on a task and scores it."""
    task = jmed_llm.training(arguments.data_dir, name, arguments.protocol)
    learned, held_out = split(task)
    encoder, asked = Encoder(arguments.model, task, arguments.seed), HeldOut(held_out, held_out.items)
    scores = encoder.fit(learned, arguments.epochs, arguments.learning_rate,
                         (lambda: asked.score(encoder.answers(held_out))) if held_out.items else None)
    test = jmed_llm.test(arguments.data_dir)[name]
    scored = HeldOut(test, test.items, task.items)
    return {"metric": test.metrics[0], "encoder": scored.score(encoder.answers(test)),
            "baseline": scored.baseline, "rows": len(test.items), "learned": len(learned.items),
            "held_out": len(held_out.items), "held_out_scores": scores}


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--data_dir", type=Path, required=True, help="a checkout of JMED-LLM")
    parser.add_argument("--tasks", default=",".join(jmed_llm.SOURCES))
    parser.add_argument("--protocol", choices=("P2", "P1"), default="P2")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--learning_rate", type=float, default=5e-5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workdir", type=Path, default=Path("runs/encoder"))
    arguments = parser.parse_args(argv)
    if arguments.epochs < 1:
        parser.error(f"--epochs={arguments.epochs}: give 1 or more")
    names, scores = arguments.tasks.split(","), {}
    try:
        for name in names:  # before hours of training
            split(jmed_llm.training(arguments.data_dir, name, arguments.protocol))
        for name in names:
            scores[name] = run(arguments, name)
            settings = {key: str(value) for key, value in vars(arguments).items()}
            write_json(arguments.workdir / "report.json", settings | {"scores": scores})
    except (ValueError, RuntimeError, OSError) as error:
        sys.exit(f"error: {' '.join(str(error).split())}")
    print(markdown_table(("task", "metric", "encoder", "baseline", "rows"), (
        (name, of["metric"], f"{of['encoder']:.3f}", f"{of['baseline']:.3f}", str(of["rows"]))
        for name, of in scores.items())), end="")


if __name__ == "__main__":
    main()

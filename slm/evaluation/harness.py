"""Our checkpoints under EleutherAI's lm-evaluation-harness: any of its tasks, and those of `harness_tasks.py`.

Texts that go together are not encoded together where that would move a token's border: an answer in a conversation is
encoded alone, as text/chat.py does, and so is a continuation that would change the ids of its context.
"""

import dataclasses
import json
import logging
import math
import os
import sys
from collections import defaultdict
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from slm import benchmarks
from slm.benchmarks import REGISTRY
from slm.evaluation import candidates, harness_tasks
from slm.inference import fit
from slm.inference.sampling import GREEDY, Sampler
from slm.scoring.models import Checkpoint
from slm.tasks.igakuqa import IgakuQAConfig
from slm.tasks.task import Message
from slm.text import chat
from slm.text.tokenizer import CHAT_TEMPLATE, END_OF_DOCUMENT, END_OF_TURN

_SAMPLING = ("temperature", "top_k", "top_p", "repetition_penalty")
_RESAMPLES = 1000  # of what the harness bootstraps


class Chat(str):
    """A conversation as the harness passes it on: the template's text, and the messages it was made of.

    The ids come from the messages, since a control symbol spelled out in one of them is plain text.
    """
    messages: list[Message]
    asks: bool  # the assistant is to answer next
    begun: bool  # the last message is the beginning of its answer

    @classmethod
    def of(cls, messages: Sequence[Message], add_generation_prompt: bool = True) -> "Chat":
        chat.validate_messages(messages)
        begun = not add_generation_prompt and messages[-1]["role"] == "assistant"
        text = "".join(f"<|{message['role']}|>{message['content']}{END_OF_TURN}" for message in messages)
        if begun:
            text = text.removesuffix(END_OF_TURN)
        conversation = cls(END_OF_DOCUMENT + text + "<|assistant|>" * add_generation_prompt)
        conversation.messages, conversation.asks, conversation.begun = list(messages), add_generation_prompt, begun
        return conversation


class Requests:
    """Our checkpoints behind the interface of lm_eval.api.model.TemplateLM.

    Attributes:
      cut: contexts that were shortened to fit: a conversation in the middle of its longest user turn, other texts at
        the beginning.
    """

    def __init__(self, model: Checkpoint):
        super().__init__()
        self.model, self.cut = model, set[str]()
        self._tokenizer = model.tokenizer

    @property
    def eot_token_id(self) -> int:
        """The token before and after every document."""
        return self._tokenizer.end_of_document

    @property
    def max_length(self) -> int:
        return self.model.engine.model_config.context

    @property
    def tokenizer_name(self) -> str:
        return f"slm-{self._tokenizer.fingerprint}"

    def chat_template(self, chat_template: bool | str = False) -> str | None:
        return CHAT_TEMPLATE if chat_template else None

    def apply_chat_template(self, chat_history: Sequence[Message], add_generation_prompt: bool = True) -> Chat:
        return Chat.of(chat_history, add_generation_prompt)

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_) -> list[int]:
        return self._tokenizer.encode(string)

    def _encode_pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        ids = self._tokenizer.encode(continuation)
        if not isinstance(context, Chat):
            before, both = self._tokenizer.encode(context), self._tokenizer.encode(context + continuation)
            if len(both) > len(before) and both[:len(before)] == before:
                ids = both[len(before):]
        return self._context(context, len(ids)), ids

    def _context(self, context: str, room: int) -> list[int]:
        """Its ids, shortened to leave `room` tokens for what follows."""
        limit = self.max_length - room
        if limit < 1:
            raise ValueError(f"a task asks for {room} tokens after its context, and the model's context is "
                             f"{self.max_length}: set --config.gen_kwargs=max_gen_toks=NUMBER, or leave the task out")
        if not isinstance(context, Chat):
            ids, cut = fit.end_of_text(self._tokenizer, context, limit)
        elif context.begun:
            ids, cut = fit.open_answer(self._tokenizer, context.messages, limit)
        else:
            encoded = chat.encode(self._tokenizer, context.messages, limit, context.asks)
            ids, cut = encoded.ids, encoded.cut
        if cut:
            self.cut.add(context)
        return ids

    def _loglikelihood_tokens(self, requests, **_) -> list[tuple[float, bool]]:
        return self.model.engine.score([(context, continuation) for _, context, continuation in requests])

    def loglikelihood_rolling(self, requests, disable_tqdm: bool = False) -> list[float]:
        """log P of whole texts, in windows of the model's context."""
        from lm_eval import utils
        pairs, rows = [], []
        for row, request in enumerate(requests):
            ids = self._tokenizer.encode(request.args[0])
            for window in utils.get_rolling_token_windows(ids, self.eot_token_id, self.max_length, 1):
                pairs.append(utils.make_disjoint_window(window))
                rows.append(row)
        totals = [0.0] * len(requests)
        for row, (value, _) in zip(rows, self.model.engine.score(pairs)):
            totals[row] += value
        return totals

    def generate_until(self, requests, disable_tqdm: bool = False) -> list[str]:
        """Answers up to the end of the turn (for a plain context: of the document), or to a stop string."""
        from lm_eval.models.utils import normalize_gen_kwargs
        alike: dict[tuple, list[tuple[int, list[int], list[str]]]] = defaultdict(list)
        unknown: set[str] = set()
        for index, request in enumerate(requests):
            context, settings = request.args
            wanted = normalize_gen_kwargs(settings)
            unknown |= set(wanted) - {*_SAMPLING, "until", "max_gen_toks", "do_sample"}
            sampler = GREEDY
            if wanted["do_sample"] and wanted.get("temperature", 1.0) > 0:
                sampler = Sampler(**{"temperature": 1.0, "top_p": 1.0} | {
                    name: wanted[name] for name in _SAMPLING if name in wanted})
            end = self._tokenizer.special(END_OF_TURN) if isinstance(context, Chat) else self.eot_token_id
            alike[wanted["max_gen_toks"], sampler, end].append(
                (index, self._context(context, wanted["max_gen_toks"]), wanted["until"]))
        if unknown:
            print(f"left out of what tasks ask of a generation: {', '.join(sorted(unknown))}", file=sys.stderr)
        answers = [""] * len(requests)
        for (new_tokens, sampler, end), group in alike.items():
            continuations = self.model.engine.generate([prompt for _, prompt, _ in group], new_tokens, sampler, end)
            for (index, _, until), ids in zip(group, continuations):
                answers[index] = self._tokenizer.decode(ids)
                for stop in filter(None, until):
                    answers[index] = answers[index].partition(stop)[0]
        return answers


def adapt(model: Checkpoint):
    """The checkpoint as a model of the harness, for `lm_eval.simple_evaluate(model=…)`."""
    _refuse_missing()
    from lm_eval.api.model import TemplateLM
    return type("Checkpoint", (Requests, TemplateLM), {})(model)


# The job ------------------------------------------------------------------------------------------------------

@dataclasses.dataclass(frozen=True)
class HarnessConfig(benchmarks.Settings):
    """What the harness runs on a checkpoint."""
    job: str = "harness"
    variant: str = "jmed_llm"
    checkpoint: str = ""  # a training; empty: the newest fine-tuning under runs/
    # NAME[,NAME…]: tasks, groups and tags of the harness, of our benchmarks (jmed_llm: likelihoods of choices, written
    # extractions; jmed_llm_free: all written; igakuqa; igakuqa_likelihood) and of `include`.
    tasks: str = "jmed_llm"
    include: str = ""  # a folder of your own YAML tasks
    limit: int = 0  # rows of each task, 0: all. Of our tasks they are spread over it, of the others the first
    chat: bool = True  # prompts in the chat template; our tasks are not asked without it
    shots: int = -1  # worked examples, where a task leaves the choice; -1: the task's own number
    gen_kwargs: str = ""  # over the tasks' own, as max_gen_toks=128,temperature=0
    batch_tokens: int = 16_384  # of prompts computed together

    def __post_init__(self):
        if self.limit < 0 or self.shots < -1 or self.batch_tokens < 1 or not self.tasks:
            raise ValueError(f"limit={self.limit}, shots={self.shots}, batch_tokens={self.batch_tokens}, "
                             f"tasks={self.tasks!r}: give at least 0, -1, 1 and a name")
        ours = [name for name in self.tasks.split(",") if name.startswith(tuple(REGISTRY))]
        if ours and not self.chat:
            raise ValueError(f"chat=false asks {', '.join(ours)} in a wording that no published score has: leave it "
                             "out, or give other tasks")
        igakuqa = benchmarks.settings_of(self, "igakuqa")
        if igakuqa.shots != IgakuQAConfig().shots:
            raise ValueError(f"igakuqa.shots={igakuqa.shots}: here the number of worked examples is set by "
                             "--config.shots, which applies to all tasks that leave the choice")


def run(config: HarnessConfig, workdir: Path) -> dict:
    """Runs the tasks and prints the harness's table; returns what `result.json` holds.

    Returns:
      {model, protocol, lm_eval (its version), truncated (contexts that were shortened),
      tasks: {name: {METRIC,FILTER: value}}}
    """
    _refuse_missing()
    import lm_eval
    from lm_eval.utils import make_table
    candidate = candidates.find("checkpoint", config.checkpoint, "")
    if len(candidate.models) > 1:
        raise ValueError(f"{candidate.name} holds {len(candidate.models)} models, the harness runs one: name it with "
                         f"--config.checkpoint={next(iter(candidate.models.values()))}")
    tasks, manager = _tasks(config, candidate)
    logging.getLogger("lm_eval.api.task").addFilter(lambda record: "Custom kwargs can" not in record.getMessage())
    model = adapt(Checkpoint.load(Path(next(iter(candidate.models.values()))), config.batch_tokens))
    found = lm_eval.simple_evaluate(
        model=model, tasks=tasks, task_manager=manager, limit=config.limit or None, apply_chat_template=config.chat,
        num_fewshot=None if config.shots < 0 else config.shots, gen_kwargs=config.gen_kwargs or None,
        bootstrap_iters=_RESAMPLES, log_samples=False)
    print(make_table(found))
    return {"model": candidate.name, "protocol": candidate.provenance.protocol, "lm_eval": metadata.version("lm_eval"),
            "truncated": len(model.cut), "tasks": {name: _plain(result) for name, result in found["results"].items()}}


def _tasks(config: HarnessConfig, candidate: candidates.Candidate) -> tuple[list[str | dict[str, Any]], Any]:
    """(the tasks asked for, ours as configs; a task manager for the others)."""
    from lm_eval.tasks import TaskManager
    if config.include and not Path(config.include).is_dir():
        raise FileNotFoundError(f"{config.include} is not a folder of YAML tasks: correct --config.include, or leave "
                                "it out")
    chosen: list[str | dict[str, Any]] = []
    ours: list[str] = []
    for name in config.tasks.split(","):
        benchmark = next((known for known in REGISTRY if name.startswith(known)), None)
        made = _ours(config, candidate, benchmark) if benchmark else {}
        names = harness_tasks.group(benchmark, list(made), name) if benchmark else []
        chosen += [made[task] for task in names] or [name]
        ours += made
    others = [name for name in chosen if isinstance(name, str)]
    # The harness's own tasks take seconds to list, and are only listed if one is asked for.
    manager = TaskManager(include_path=config.include or None, include_defaults=False)
    if not set(others) <= set(manager.all_tasks):
        manager = TaskManager(include_path=config.include or None)
    unknown = [name for name in others if name not in manager.all_tasks and not Path(name).is_file()]
    if unknown:
        raise ValueError(f"neither the harness nor --config.include={config.include!r} has a task "
                         f"{', '.join(unknown)}: `lm_eval ls tasks` lists the harness's, and these are ours: "
                         f"{', '.join(ours) or ', '.join(REGISTRY)}")
    return chosen, manager


def _ours(config: HarnessConfig, candidate: candidates.Candidate, name: str) -> dict[str, dict[str, Any]]:
    if candidate.provenance.protocol == "CV":
        raise ValueError(f"{candidate.name} is a fold of a cross-validation, which was trained on test rows: score it "
                         "with configs/evaluate.py, which asks what it has not seen")
    benchmark = REGISTRY[name]
    tasks = benchmark.tasks(benchmarks.settings_of(config, name), candidate.provenance, ())
    return harness_tasks.configs(name, tasks, config.limit)


def _plain(results: dict) -> dict:
    """Without the harness's labels; what is not a number is None."""
    def finite(value):
        return None if value == "N/A" or (isinstance(value, float) and math.isnan(value)) else value
    return json.loads(json.dumps({key: finite(value) for key, value in results.items() if key not in ("alias", "name")},
                                 default=float))


def _refuse_missing() -> None:
    os.environ.setdefault("LMEVAL_DISABLE_MULTIPROC", "1")  # a process with JAX in it does not fork well
    try:
        import lm_eval  # noqa: F401
    except ImportError as error:
        raise RuntimeError(f"lm-evaluation-harness is not installed ({error}): pip install 'slm[lm-eval]'") from None

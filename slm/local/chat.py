"""A chat in the terminal: history, streaming, and the settings in reach."""

import dataclasses
import sys
import typing
from collections.abc import Callable
from pathlib import Path

from slm.inference import fit
from slm.inference.sampling import Settings
from slm.local import runtime
from slm.local.runtime import Runtime, RuntimeConfig
from slm.text import chat

_HELP = """/new            begin a new conversation
/system TEXT    begin a new one, with this said before it
/set NAME=VALUE change a setting ({names})
/settings       show them
/undo           take back the last question and its answer
/again          ask it again
/save FILE      write the conversation, as messages that configs/sft.py reads
/exit           leave (also Ctrl-D); Ctrl-C stops an answer"""


@dataclasses.dataclass(frozen=True)
class ChatConfig:
    """The chat job."""
    job: str = "chat"
    variant: str = "terminal"
    runtime: RuntimeConfig = RuntimeConfig()
    settings: Settings = Settings()
    system: str = ""  # said before the conversation


def run(config: ChatConfig, workdir: Path) -> dict:
    """Talks until the user leaves, or the lines of a pipe end; returns what `result.json` holds, which is no text."""
    model = runtime.load(config.runtime)
    talk = ChatSession(model, config.settings, config.system)
    if sys.stdin.isatty():
        import readline  # noqa: F401  arrows and history in input()
        print(f"{model.name}, {model.context} tokens of context. /help tells what else can be typed. Nothing it says "
              "is medical advice.")
    failed = _loop(talk, "> " if sys.stdin.isatty() else "")
    if failed and not sys.stdin.isatty():
        raise RuntimeError(f"{failed} lines of the pipe could not be done; what is wrong stands above")
    return {"model": model.name, "turns": talk.turns}


def _loop(talk: "ChatSession", prompt: str) -> int:
    """Answers lines until they end; returns how many could not be."""
    failed = 0
    while True:
        try:
            line = input(prompt).strip()
        except (EOFError, KeyboardInterrupt):
            print(end="\n" if prompt else "")
            return failed
        if line == "/exit":
            return failed
        if not line:
            continue
        try:
            if line.startswith("/"):
                print(command(talk, line), end="")
            else:
                talk.ask(line, _say)
        except (ValueError, OSError) as error:
            print(f"error: {error}")
            failed += 1


def _say(piece: str) -> None:
    print(piece, end="", flush=True)


class ChatSession:
    """A conversation with a model.

    Attributes:
      messages: what was said so far.
      turns: questions answered since the program began.
    """

    def __init__(self, model: Runtime, settings: Settings, system: str = ""):
        self.model, self.settings, self.turns = model, settings, 0
        self.begin(system)

    def begin(self, system: str = "") -> None:
        self.messages: list[chat.Message] = [{"role": "system", "content": system}] if system else []

    def ask(self, question: str, say: Callable[[str], None]) -> str:
        """The answer, which `say` is given piece by piece; Ctrl-C keeps what was said until then.

        Old turns are left out of what the model reads where the context has no room for them.

        Raises:
          ValueError: a question that does not fit in the context by itself; it is not kept.
        """
        messages = [*self.messages, {"role": "user", "content": question}]
        pieces: list[str] = []
        answer = self.model.stream(self._prompt(messages), self.settings)
        try:
            for piece in answer:
                pieces.append(piece)
                say(piece)
        except KeyboardInterrupt:
            answer.close()
        say("\n")
        self.messages = [*messages, {"role": "assistant", "content": "".join(pieces)}]
        self.turns += 1
        return "".join(pieces)

    def _prompt(self, messages: list[chat.Message]) -> list[int]:
        context = self.model.context
        limit = context - min(self.settings.max_tokens, context // 4)
        ids = fit.latest_turns(self.model.tokenizer, messages, limit)
        if ids is None:
            raise ValueError(f"the question does not fit in {limit} tokens, for the model's context is {context} and a "
                             "part of it is the answer's: shorten the question")
        return ids

    def undo(self) -> str | None:
        """Takes back the last question and its answer; returns the question."""
        if not self.messages or self.messages[-1]["role"] != "assistant":
            return None
        *self.messages, question, _ = self.messages
        return question["content"]


def command(talk: ChatSession, line: str) -> str:
    """Does what a line that begins with a slash says; returns what there is to print."""
    name, _, rest = line.partition(" ")
    rest = rest.strip()
    names = ", ".join(field.name for field in dataclasses.fields(Settings))
    if name == "/help":
        return _HELP.format(names=names) + "\n"
    if name in ("/new", "/system"):
        talk.begin(rest)
        return "a new conversation\n"
    if name == "/set":
        talk.settings = changed(talk.settings, rest)
        return ""
    if name == "/settings":
        return f"{talk.settings}\n"
    if name == "/undo":
        return "taken back\n" if talk.undo() is not None else "there is nothing to take back\n"
    if name == "/again":
        before = talk.messages
        if (question := talk.undo()) is None:
            return "there is nothing to ask again\n"
        talk.settings = dataclasses.replace(talk.settings, seed=(talk.settings.seed + 1) % 2**31)
        try:
            talk.ask(question, _say)
        except ValueError:
            talk.messages = before
            raise
        return ""
    if name == "/save":
        import json
        if not rest:
            raise ValueError("/save needs the name of a file")
        Path(rest).write_text(json.dumps({"messages": talk.messages}, ensure_ascii=False) + "\n", encoding="utf-8")
        return f"written to {rest}\n"
    return f"{name} is not known: /help tells what is\n"


def changed(settings: Settings, text: str) -> Settings:
    """Settings with NAME=VALUE.

    Raises:
      ValueError: an unknown name, or a value that it cannot have.
    """
    name, _, value = text.partition("=")
    kinds = typing.get_type_hints(Settings)
    if name.strip() not in kinds:
        raise ValueError(f"{name.strip()!r} is no setting: known are {', '.join(kinds)}")
    kind = kinds[name.strip()]
    try:
        read = kind(value.strip())
    except ValueError:
        raise ValueError(f"{name.strip()} is {kind.__name__}, not {value.strip()!r}") from None
    return dataclasses.replace(settings, **{name.strip(): read})

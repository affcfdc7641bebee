"""The chat job: a conversation in the terminal, with history, streaming and settings."""

import contextlib
import dataclasses
import select
import sys
import typing
from collections.abc import Callable
from pathlib import Path

from slm import files
from slm.inference import fit
from slm.inference.sampling import Settings
from slm.local import runtime
from slm.local.runtime import Runtime, RuntimeConfig
from slm.text import chat
from slm.workdir import PRIVATE

_HELP = """/new            begin a new conversation
/system TEXT    begin a new one with this system prompt
/set NAME=VALUE change a setting ({names})
/settings       show them
/undo           remove the last question and its answer
/again          ask it again
/save FILE      write the conversation, as messages that configs/sft.py reads
/exit           leave (also Ctrl-D); Ctrl-C stops an answer"""

_PASTED_SECONDS = 0.05  # lines that follow within it were pasted


@dataclasses.dataclass(frozen=True)
class ChatConfig:
    """The chat job."""
    job: str = "chat"
    variant: str = "terminal"
    runtime: RuntimeConfig = RuntimeConfig()
    settings: Settings = Settings()
    system: str = dataclasses.field(default="", metadata={PRIVATE: True})  # the system prompt


def run(config: ChatConfig, workdir: Path) -> dict:
    """Chats until the user leaves or piped input ends; returns what `result.json` holds, which contains no text."""
    model = runtime.load(config.runtime)
    session = ChatSession(model, config.settings, config.system)
    if sys.stdin.isatty():
        import readline  # arrows and history in input()
        readline.parse_and_bind("set enable-bracketed-paste on")
        print(f"{model.name}, {model.context} tokens of context. /help lists the commands. Nothing it says is medical "
              "advice.")
    failed = _loop(session, "> " if sys.stdin.isatty() else "")
    if failed and not sys.stdin.isatty():
        raise RuntimeError(f"{failed} lines of the piped input failed; the errors are above")
    return {"model": model.name, "turns": session.turns}


def _loop(session: "ChatSession", prompt: str) -> int:
    """Answers lines until they end; returns how many failed."""
    failed = 0
    while True:
        try:
            line = _read(prompt)
        except (EOFError, KeyboardInterrupt):
            print(end="\n" if prompt else "")
            return failed
        if line == "/exit":
            return failed
        if not line:
            continue
        try:
            if line.startswith("/") and "\n" not in line:
                print(command(session, line), end="")
            else:
                session.ask(line, _print)
        except (ValueError, OSError) as error:
            print(f"error: {error}")
            failed += 1


def _read(prompt: str) -> str:
    """A message: a line, or of a terminal all lines that were pasted together."""
    lines = [input(prompt)]
    with contextlib.suppress(EOFError):  # it ends the chat when the message has been answered
        while sys.stdin.isatty() and select.select([sys.stdin], [], [], _PASTED_SECONDS)[0]:
            lines.append(input())
    return "\n".join(lines).strip()


def _print(text: str) -> None:
    print(text, end="", flush=True)


class ChatSession:
    """A conversation with a model.

    Attributes:
      messages: the conversation so far.
      turns: questions answered since the program started.
    """

    def __init__(self, model: Runtime, settings: Settings, system: str = ""):
        self.model, self.settings, self.turns = model, settings, 0
        self.begin(system)

    def begin(self, system: str = "") -> None:
        self.messages: list[chat.Message] = [{"role": "system", "content": system}] if system else []

    def ask(self, question: str, write: Callable[[str], None]) -> str:
        """The answer, also passed to `write` part by part; Ctrl-C stops it and keeps what was written.

        The model does not see the oldest turns if the context has no room for them.

        Raises:
          ValueError: a question that does not fit in the context by itself; it is not kept.
        """
        messages = [*self.messages, {"role": "user", "content": question}]
        answer = ""
        stream = self.model.stream(self._prompt(messages), self.settings)
        try:
            for part in stream:
                answer += part
                write(part)
        except KeyboardInterrupt:
            stream.close()
        write("\n")
        self.messages = [*messages, {"role": "assistant", "content": answer}]
        self.turns += 1
        return answer

    def _prompt(self, messages: list[chat.Message]) -> list[int]:
        context = self.model.context
        limit = context - min(self.settings.max_tokens, context // 4)
        ids = fit.latest_turns(self.model.tokenizer, messages, limit)
        if ids is None:
            raise ValueError(f"the question has more than {limit} tokens, all that the model's context of {context} "
                             "leaves beside the answer: shorten it")
        return ids

    def undo(self) -> str | None:
        """Removes the last question and its answer; returns the question."""
        if not self.messages or self.messages[-1]["role"] != "assistant":
            return None
        *self.messages, question, _ = self.messages
        return question["content"]


def command(session: ChatSession, line: str) -> str:
    """Runs a command, a line that begins with a slash; returns what to print."""
    name, _, rest = line.partition(" ")
    rest = rest.strip()
    names = ", ".join(field.name for field in dataclasses.fields(Settings))
    if name == "/help":
        return _HELP.format(names=names) + "\n"
    if name in ("/new", "/system"):
        session.begin(rest)
        return "a new conversation\n"
    if name == "/set":
        session.settings = changed(session.settings, rest)
        return ""
    if name == "/settings":
        return f"{session.settings}\n"
    if name == "/undo":
        return "removed\n" if session.undo() is not None else "nothing to remove\n"
    if name == "/again":
        before = session.messages
        if (question := session.undo()) is None:
            return "nothing to ask again\n"
        session.settings = dataclasses.replace(session.settings, seed=(session.settings.seed + 1) % 2**31)
        try:
            session.ask(question, _print)
        except ValueError:
            session.messages = before
            raise
        return ""
    if name == "/save":
        if not rest:
            raise ValueError("/save needs the name of a file")
        files.write_json_lines(Path(rest), [{"messages": session.messages}])
        return f"written to {rest}\n"
    return "this is not a command: /help lists them\n"


def changed(settings: Settings, text: str) -> Settings:
    """Settings with NAME=VALUE.

    Raises:
      ValueError: an unknown name, or a value that it cannot have.
    """
    name, value = (part.strip() for part in text.partition("=")[::2])
    types = typing.get_type_hints(Settings)
    if name not in types:
        raise ValueError(f"this is not a setting: choose one of {', '.join(types)}")
    try:
        converted = types[name](value)
    except ValueError:
        raise ValueError(f"{name} takes a value of type {types[name].__name__}") from None
    return dataclasses.replace(settings, **{name: converted})

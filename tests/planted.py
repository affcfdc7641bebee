"""A rare word, and where it turns up after a run: in what is printed, and in the files that are left."""

import bz2
import contextlib
import csv
import dataclasses
import fnmatch
import gzip
import io
import json
import os
import re
import sys
import tempfile
import traceback
import urllib.parse
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from absl import flags

from slm import main
from slm.products import build
from slm.tasks import jmed_llm

WORD, LATIN = "鷺沼谷嶋", "Saginuyashima"  # a surname that nobody has; the second where only ASCII is allowed
W, LONG = f"{WORD}様は65歳、咳嗽あり。", WORD * 60
PRINTED = "printed"  # among the documented outputs: what a job was asked to print to stdout
_PARTS = (WORD[:3], WORD[1:], LATIN[:8], LATIN[-8:])  # also of a quotation that is cut off


def _spellings(text: str) -> set[bytes]:
    """A text as encodings, JSON, Python, XML and addresses write it."""
    utf8 = text.encode()
    written = {text.encode("ascii", "backslashreplace").decode(), text.encode("ascii", "xmlcharrefreplace").decode(),
               urllib.parse.quote(text), repr(utf8)[2:-1], utf8.hex()}
    written |= {each.upper() for each in written} | {each.lower() for each in written}
    encoded = {text.encode(name) for name in ("utf-8", "utf-16-le", "utf-16-be", "cp932", "euc_jp")}
    mistaken = {text.encode(name).decode("latin-1").encode() for name in ("utf-8", "cp932")}
    return encoded | mistaken | {each.encode() for each in written}


_SPELLINGS = set().union(*map(_spellings, _PARTS))
_PATTERN = re.compile(b"|".join(map(re.escape, sorted(_SPELLINGS, key=len, reverse=True))))


def holds(content: bytes | str) -> bool:
    return bool(_PATTERN.search(content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content))


def file_holds(path: Path) -> bool:
    """Whether a file holds the word, in its name or in its content, compressed or not."""
    if holds(path.name) or holds(path.read_bytes()):
        return True
    if ".array_record" in path.name:
        from array_record.python import array_record_module
        reader = array_record_module.ArrayRecordReader(str(path))
        found = any(map(holds, reader.read_all()))
        reader.close()
        return found
    if path.suffix in (".gz", ".bz2"):
        return holds({".gz": gzip, ".bz2": bz2}[path.suffix].decompress(path.read_bytes()))
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            return any(holds(name) or holds(archive.read(name)) for name in archive.namelist())
    return False


@dataclasses.dataclass(frozen=True)
class Left:
    """What a run left: how it ended, what it printed, and below its folder the files that hold the word.

    Attributes:
      err: also the message that it ended with, log records, warnings and tracebacks of threads.
    """
    code: str | int | None
    out: str
    err: str
    files: list[str]
    others_may_read: list[str]

    @property
    def printed(self) -> str:
        return f"{self.out}\n{self.err}"

    def leaks(self, *documented: str) -> list[str]:
        """Where the word is, but for the files that these patterns name."""
        printed = (self.err if PRINTED in documented else self.printed).splitlines()
        found = [f"{PRINTED}: {line}" for line in printed if holds(line)]
        return found + [name for name in self.files if not any(fnmatch.fnmatch(name, each) for each in documented)]


class Runner:
    """Runs `slm.main` in this process and in a folder of its own, as the command line does."""

    def __init__(self, folder: Path, monkeypatch, capfd, caplog):
        self.folder, self._capfd, self._caplog, self._monkeypatch = folder, capfd, caplog, monkeypatch
        (folder / "temporary").mkdir()
        monkeypatch.chdir(folder)
        monkeypatch.setenv("TMPDIR", str(folder / "temporary"))
        monkeypatch.setattr(tempfile, "tempdir", None)

    def run(self, *arguments: str, stdin: str = "") -> Left:
        self._monkeypatch.setattr(sys, "argv", ["slm", *arguments, "--workdir=run"])
        self._monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        _forget()
        before, thread_errors = os.umask(0o022), []
        self._monkeypatch.setattr("threading.excepthook", lambda args: thread_errors.append(
            "".join(traceback.format_exception(args.exc_value))))
        self._capfd.readouterr()
        self._caplog.clear()
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                main.run()
                code = None
        except SystemExit as ended:
            code = ended.code
        finally:
            os.umask(before)
        out, err = self._capfd.readouterr()
        return self.left(code, out, "\n".join([err, str(code), self._caplog.text, *thread_errors,
                                               *(str(warning.message) for warning in caught)]))

    def left(self, code: str | int | None, out: str, err: str) -> Left:
        paths = [path for path in sorted(self.folder.rglob("*")) if self.folder / "in" not in (path, *path.parents)]
        made = [path for path in paths if path not in (self.folder / "temporary", self.folder / "configs")]
        return Left(code, out, err,
                    [str(path.relative_to(self.folder)) for path in made
                     if (file_holds(path) if path.is_file() else holds(path.name))],
                    [str(path.relative_to(self.folder)) for path in made
                     if not path.is_symlink() and path.stat().st_mode & 0o077])


def _forget() -> None:
    """What a new process does not know: flags of the run before, and products found by a path relative to its folder."""
    for name in [name for name in flags.FLAGS if name.startswith("config.")]:
        delattr(flags.FLAGS, name)
    flags.FLAGS.unparse_flags()
    for module in (build, jmed_llm):
        for value in vars(module).values():
            getattr(value, "cache_clear", lambda: None)()


# Cases --------------------------------------------------------------------------------------------------------

Content = str | bytes | Callable[[Path], None]  # a text, bytes, or a function that writes the file


@dataclasses.dataclass(frozen=True)
class Case:
    """A run of the command line.

    Attributes:
      arguments: config and flags, separated by spaces; {url}, {model} and the like stand for what a test has.
      files: by their names below the folder.
      says: a pattern of what is printed, which shows that the planted file was read.
      holds: patterns of the outputs that are documented to hold what was read.
      reply: (status, body) of the endpoint.
    """
    name: str
    arguments: str
    files: dict[str, Content]
    says: str
    holds: tuple[str, ...] = ()
    ends_well: bool = False
    stdin: str = ""
    reply: tuple[int, Any] = (500, {})


def check(case: Case, runner: Runner, **places: object) -> Left:
    for name, content in case.files.items():
        path = runner.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if callable(content):
            content(path)
        else:
            path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))
    for path in (runner.folder / "run", *(runner.folder / "run").rglob("*")):  # as an earlier run left it
        if path.exists():
            path.chmod(0o700 if path.is_dir() else 0o600)
    arguments = case.arguments
    for name, place in places.items():
        arguments = arguments.replace(f"{{{name}}}", str(place))
    config, *rest = arguments.split(" ")
    left = runner.run(f"--config={config}", *rest, stdin=case.stdin)
    assert re.search(case.says, left.printed), left.printed
    assert (left.code is None) == case.ends_well, left.printed
    assert not left.leaks(*case.holds), f"leaks: {left.leaks(*case.holds)}"
    assert not left.others_may_read, f"others may read: {left.others_may_read}"
    if case.holds:
        assert left.files or PRINTED in case.holds, "the word is in no output: it was not read"
    return left


def rows(*values) -> str:
    """JSON Lines."""
    return "".join((value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)) + "\n"
                   for value in values)


def table(*lines) -> str:
    """A CSV file."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(lines)
    return text.getvalue()


@pytest.fixture
def runner(tmp_path, monkeypatch, capfd, caplog):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    (tmp_path / "configs").symlink_to(Path(__file__).parents[1] / "configs")
    return Runner(tmp_path, monkeypatch, capfd, caplog)


@pytest.fixture
def endpoint():
    """A function that starts an OpenAI-compatible server with one answer to all, and returns its address."""
    from tests.evaluation.test_endpoint import Stub
    with contextlib.ExitStack() as stack:
        def start(answer: tuple[int, Any]) -> str:
            stub = Stub(lambda *_: answer)
            stack.callback(stub.server.server_close)
            stack.callback(stub.server.shutdown)
            return stub.url
        yield start

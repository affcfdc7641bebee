"""A rare word, and where it turns up after a run: in what is printed, and in the files that are left."""

import bz2
import dataclasses
import fnmatch
import gzip
import io
import os
import re
import sys
import tempfile
import traceback
import urllib.parse
import warnings
import zipfile
from pathlib import Path

from absl import flags

from slm import main
from slm.products import build
from slm.tasks import jmed_llm

WORD, LATIN = "鷺沼谷嶋", "Saginuyashima"  # a surname that nobody has; the second where only ASCII is allowed
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
    """What a run left: how it ended, all that it printed, and below its folder the files that hold the word."""
    code: str | int | None
    printed: str
    files: list[str]
    others_may_read: list[str]

    def leaks(self, *documented: str) -> list[str]:
        """Where the word is, but for the files that these patterns name."""
        found = [f"printed: {line}" for line in self.printed.splitlines() if holds(line)]
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
        printed = "\n".join([*self._capfd.readouterr(), str(code), self._caplog.text, *thread_errors,
                             *(str(warning.message) for warning in caught)])
        return self.left(code, printed)

    def left(self, code: str | int | None, printed: str) -> Left:
        paths = [path for path in sorted(self.folder.rglob("*")) if self.folder / "in" not in (path, *path.parents)]
        made = [path for path in paths if path not in (self.folder / "temporary", self.folder / "configs")]
        return Left(code, printed,
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

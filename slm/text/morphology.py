"""MeCab: lossless segmentation into morphemes, with ipadic and, optionally, a user dictionary.

The dictionary is compiled from a plain word list by the libmecab that mecab-python3 bundles, so that pip packages
suffice.
"""

import csv
import ctypes
import functools
import glob
import hashlib
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

import ipadic
import MeCab

from slm.text.normalize import BOUNDARY, normalize

# MeCab stops at NUL and makes the others part of a morpheme, so each of these is a morpheme of its own.
_BREAKS = re.compile("([\n\t\0]|(?: |\u3000)+)")
_LONGEST_CALL = 20_000  # characters; MeCab holds a lattice of the whole call in memory

# Shorter ASCII entries would split laboratory terms: with ALT and MR as words, CRP becomes CR|P.
_LONGEST_LEFT_OUT_ASCII = 5
_NODE = f"%M{BOUNDARY}%h{BOUNDARY}"  # surface with the white space before it, part-of-speech id
_LOWEST_COST, _HIGHEST_COST = -2**15, 2**15 - 1  # MeCab keeps 16 bits; larger numbers would silently wrap around
_NOUN = "1288,1288,{cost},名詞,固有名詞,一般,*,*,*,{surface},*,*"  # ids of ipadic's 名詞,固有名詞,一般


class Morphology:
    """Segments normalised text into morphemes; joined, they give the text back, white space included."""

    def __init__(self, user_dictionary: Path | None = None):
        """Loads ipadic and `user_dictionary` (a file made by `compile_dictionary`)."""
        for path in filter(None, (ipadic.DICDIR, user_dictionary)):
            if not Path(path).exists():
                raise FileNotFoundError(f"MeCab dictionary {path} is missing: reinstall ipadic, or build the user "
                                        "dictionary again with configs/tokenizer.py")
        self.fingerprint = fingerprint(user_dictionary)
        self.has_user_dictionary = user_dictionary is not None
        user = ["-u", str(user_dictionary)] if user_dictionary else []
        self._tagger = MeCab.Tagger(" ".join(map(_quoted, [
            "-r", os.devnull, "-d", ipadic.DICDIR, *user,
            f"--node-format={_NODE}", f"--unk-format={_NODE}", "--eos-format="])))

    def split(self, text: str) -> list[str]:
        """Morphemes of the normalised `text`; `"".join(...)` gives `text` back."""
        return self.tag(text)[0]

    def tag(self, text: str) -> tuple[list[str], list[str]]:
        """Morphemes, as `split` returns them, and ipadic's part-of-speech id of each; "" for white space."""
        morphemes: list[str] = []
        tags: list[str] = []
        for part in _BREAKS.split(text):
            if not part:
                continue
            if _BREAKS.match(part):
                morphemes.append(part)
                tags.append("")
                continue
            for start in range(0, len(part), _LONGEST_CALL):
                piece = part[start:start + _LONGEST_CALL]
                fields = self._tagger.parse(piece).split(BOUNDARY)
                surfaces = fields[:-1:2]
                morphemes += surfaces
                tags += fields[1::2]
                # Other white space is part of the next morpheme; at the end of a call there is no next one.
                if rest := piece[sum(map(len, surfaces)):]:
                    morphemes.append(rest)
                    tags.append("")
        return morphemes, tags


def fingerprint(user_dictionary: Path | None = None) -> str:
    """A hash of everything that decides the boundaries: MeCab, ipadic and the user dictionary."""
    parts = hashlib.sha256()
    for package in ("mecab-python3", "ipadic"):
        parts.update(importlib.metadata.version(package).encode() + b"\0")
    if user_dictionary:
        parts.update(Path(user_dictionary).read_bytes())
    return parts.hexdigest()[:16]


DICTIONARY_VERSION = 2  # raise it when the same words give another dictionary


def compile_dictionary(words: Iterable[str], path: Path) -> int:
    """Compiles `words` into the MeCab user dictionary `path`; returns the number of its entries.

    ASCII words of five characters or fewer are left out: they would split laboratory terms.

    Raises:
      ValueError: no usable word.
      RuntimeError: MeCab cannot compile it.
    """
    surfaces = sorted({surface for surface in map(normalize, words) if _usable(surface)})
    if not surfaces:
        raise ValueError("no word of the list can be a dictionary entry: give at least one that is longer than "
                         f"{_LONGEST_LEFT_OUT_ASCII} ASCII characters or not ASCII")
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        entries, compiled = Path(folder, "words.csv"), Path(folder, "user.dic")
        with open(entries, "w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            for surface in surfaces:
                cost = _cost(surface)
                if not _LOWEST_COST <= cost <= _HIGHEST_COST:
                    raise ValueError(f"a word of {len(surface)} characters costs {cost}: MeCab's dictionaries hold "
                                     f"{_LOWEST_COST} to {_HIGHEST_COST}")
                writer.writerow([surface, *_NOUN.format(cost=cost, surface="*").split(",")])
        _index(["-d", ipadic.DICDIR, "-u", str(compiled), "-f", "utf-8", "-t", "utf-8", str(entries)])
        if not compiled.exists():
            raise RuntimeError(f"mecab_dict_index wrote no dictionary of {len(surfaces)} words")
        shutil.move(compiled, path)
    return len(surfaces)


def _cost(surface: str) -> int:
    """Longer words are cheaper, so that a term wins over its parts."""
    return max(_LOWEST_COST, int(-400 * len(surface) ** 1.5))


def _usable(surface: str) -> bool:
    if surface.isascii() and len(surface) <= _LONGEST_LEFT_OUT_ASCII:
        return False
    return len(surface) > 1 and not _BREAKS.search(surface)


def _index(arguments: list[str]) -> None:
    """Runs mecab-dict-index: the bundled library's in another process (it prints and may exit), else PATH's."""
    library = _bundled_library()
    if library:
        command = [sys.executable, "-c", _CALL_BUNDLED, library]
    elif shutil.which("mecab-dict-index"):
        command = ["mecab-dict-index"]
    else:
        raise RuntimeError("mecab_dict_index is missing from mecab-python3 and from PATH: install Debian's "
                           "mecab-utils, or a wheel of mecab-python3")
    done = subprocess.run([*command, *arguments], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"mecab-dict-index failed: {(done.stderr or done.stdout).strip()[-500:]}")


_CALL_BUNDLED = """
import ctypes, sys
library, arguments = sys.argv[1], [b"mecab-dict-index", *map(str.encode, sys.argv[2:])]
sys.exit(ctypes.CDLL(library).mecab_dict_index(len(arguments), (ctypes.c_char_p * len(arguments))(*arguments)))
"""


@functools.cache
def _bundled_library() -> str | None:
    """The libmecab inside the mecab-python3 wheel (Linux, macOS), if it exports mecab_dict_index."""
    package = os.path.dirname(MeCab.__file__)
    for pattern in ("../mecab_python3.libs/libmecab-*.so*", ".dylibs/libmecab*.dylib"):
        for library in glob.glob(os.path.join(package, pattern)):
            if hasattr(ctypes.CDLL(library), "mecab_dict_index"):
                return library
    return None


def _quoted(argument: str) -> str:
    return f'"{argument}"' if " " in argument else argument

"""The store of what jobs build on the way: made once, under a lock, and reused by its fingerprint.

A product lives in `runs/products/<kind>-<fingerprint>`. It is written aside and renamed when whole, so that a folder
under its own name is never half a product.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from slm import files
from slm.locks import locked

PRODUCTS = Path("runs", "products")


def product(kind: str, version: int, ingredients: Sequence[Any], libraries: Sequence[str],
            build: Callable[[Path], Any]) -> Path:
    """The folder of a product, built now if it is missing.

    Args:
      version: of the code that builds it, raised by hand when the same ingredients give other bytes.
      ingredients: what JSON can hold: settings, and fingerprints of what it is made from.
      libraries: packages whose version decides its bytes.
      build: writes into a folder, which is kept after a kill, so that it may resume.
    """
    key = [version, {name: metadata.version(name) for name in libraries}, *ingredients]
    fingerprint = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]
    folder = PRODUCTS / f"{kind}-{fingerprint}"
    if folder.exists():
        return folder
    aside = folder.with_name(f"{folder.name}.making")
    new = not aside.exists()
    aside.mkdir(parents=True, exist_ok=True)
    try:
        with locked(aside, wait=True):  # another process may be making the same
            if folder.exists():
                return folder
            print(f"making {folder}", file=sys.stderr, flush=True)
            build(aside)
            files.remove_torn(aside)
            os.sync()  # else a power cut may leave the name without the content
            aside.rename(folder)
    except Exception as error:
        # What bad input leaves is of no use: once corrected, it makes another product. After a kill, a full disk or a
        # failed task the same command resumes, and an error must not take away what was there before.
        if new and not isinstance(error, (OSError, RuntimeError, MemoryError, subprocess.CalledProcessError)):
            shutil.rmtree(aside, ignore_errors=True)
        raise
    return folder

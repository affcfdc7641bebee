"""Imports run downwards only, and start-up stays free of what a job does not need."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "slm"

# From the top down; a room may import those below it and its own.
LAYERS = [
    {"slm.main"},
    {"slm.jobs"},
    {"slm.train", "slm.evaluation", "slm.report", "slm.quality", "slm.export", "slm.local"},
    {"slm.generate", "slm.data", "slm.corpus", "slm.tasks"},
    {"slm.checkpoint", "slm.sharding"},
    {"slm.model"},
    {"slm.text"},
    {"slm.config", "slm.memory", "slm.distributed", "slm.progress"},
]


def room(module: str) -> str:
    return ".".join(module.split(".")[:2])


def modules():
    for path in sorted(PACKAGE.rglob("*.py")):
        yield ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__"), path


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
    return found


def depth(module: str) -> int:
    return next(index for index, layer in enumerate(LAYERS) if room(module) in layer)


@pytest.mark.parametrize("module, path", [m for m in modules() if m[0] != "slm"], ids=lambda x: str(x))
def test_imports_run_downwards(module, path):
    for name in imports(path):
        if name.startswith("slm.") and room(name) != room(module):
            assert depth(name) >= depth(module), f"{module} imports {name}, which lies above it"


def test_rooms_that_keep_to_themselves():
    for module, path in modules():
        names = imports(path)
        if module.startswith("slm.text"):
            assert not {name.split(".")[0] for name in names} & {"jax", "flax", "optax", "orbax"}, module
        if module.startswith("slm.model"):
            assert {room(name) for name in names if name.startswith("slm.")} <= {"slm.model", "slm.config"}, module
        else:
            assert not any(name.split(".")[0] == "flax" for name in names), f"{module}: Flax stays inside the model"


@pytest.mark.parametrize("module, absent", [
    ("slm.jobs", ["jax", "tensorflow_datasets", "grain", "MeCab"]),
    ("slm.text.tokenizer", ["jax"]),
    ("slm.corpus.pipeline", ["jax", "tensorflow_datasets", "openai", "matplotlib"]),
    ("slm.quality.training", ["jax", "sklearn"]),
    ("slm.train.pretrain", ["tensorflow", "torch", "tensorflow_datasets", "tensorboardX", "pyarrow"]),
])
def test_start_up_imports_no_more_than_needed(module, absent):
    code = f"import sys, {module}; print(*[name for name in {absent} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []

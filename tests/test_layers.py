"""Imports run downwards only, and start-up stays free of what a job does not need."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "slm"

# From the top down; a room may import those below it and itself. Rooms of one line may import each other, without a ring.
LAYERS = [
    {"slm.main"},
    {"slm.jobs"},
    {"slm.train", "slm.evaluation", "slm.report", "slm.export", "slm.local", "slm.planning"},
    {"slm.products"},
    {"slm.scoring"},
    {"slm.quality", "slm.data", "slm.tokenization", "slm.generate", "slm.inference"},
    {"slm.benchmarks"},
    {"slm.corpus", "slm.sample", "slm.tasks"},
    {"slm.checkpoint", "slm.sharding", "slm.workdir"},
    {"slm.model"},
    {"slm.text"},
    {"slm.config", "slm.distributed", "slm.figures", "slm.files", "slm.hardware", "slm.locks", "slm.openai_client",
     "slm.parallel", "slm.process", "slm.progress", "slm.weight_files"},
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


def rings(graph):
    """The groups of nodes that reach each other."""
    def reached(node):
        seen, left = set(), [node]
        while left:
            for after in graph[left.pop()] - seen:
                seen.add(after)
                left.append(after)
        return seen
    reach = {node: reached(node) for node in graph}
    return {frozenset(other for other in reach[node] if node in reach[other]) for node in graph if node in reach[node]}


def test_a_ring_is_found():
    assert rings({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"d"}}) == {frozenset("bc"), frozenset("d")}


def test_no_module_and_no_room_is_in_a_ring():
    names = dict(modules())
    graph = {module: {name for name in imports(path) if name in names and not f"{module}.".startswith(f"{name}.")}
             for module, path in names.items()}  # a module may name the package that it is in
    assert rings(graph) == set()
    rooms = {room(module): set() for module in names}
    for module, used in graph.items():
        rooms[room(module)] |= {room(name) for name in used} - {room(module)}
    assert rings(rooms) == set()


def test_files_stay_within_five_pages():
    long = {str(path): lines for path in [*PACKAGE.rglob("*.py"), *PACKAGE.parent.glob("benchmarks/*.py")]
            if (lines := len(path.read_text(encoding="utf-8").splitlines())) > 400}
    assert not long


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

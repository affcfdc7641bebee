"""What the documents say exists: links, configs, flags, tests; and the blocks of extending.md run."""

import functools
import importlib.util
import re
import runpy
from pathlib import Path

import ml_collections
import pytest

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
CURRENT = [page for page in PAGES if page.parent.name != "log"]  # the log describes its days
BLOCKS = dict(re.findall(r"```python\n# (\w+): .*\n((?:.*\n)*?)```", (ROOT / "docs/extending.md").read_text(encoding="utf-8")))

by_page = functools.partial(pytest.mark.parametrize, "page", ids=lambda page: page.name)


@functools.cache
def read(page):
    return page.read_text(encoding="utf-8")


def prose(page):
    """The page without its fenced blocks."""
    return re.sub(r"^```.*?^```$", "", read(page), flags=re.DOTALL | re.MULTILINE)


# The blocks of extending.md -----------------------------------------------------------------------------------

def test_no_block_is_left_out():
    assert [*BLOCKS] == ["filter", "source", "format", "benchmark", "optimizer"]
    assert read(ROOT / "docs/extending.md").count("```python") == len(BLOCKS)
    assert all("\nassert " in block for block in BLOCKS.values())


@pytest.mark.parametrize("name", BLOCKS)
def test_a_block_runs_as_it_is_written(name, monkeypatch, tmp_path):
    (tmp_path / "block.py").write_text(BLOCKS[name], encoding="utf-8")
    (tmp_path / "empty").mkdir()
    runpy.run_path(str(tmp_path / "block.py"), {"monkeypatch": monkeypatch, "tmp_path": tmp_path / "empty"})


# Links --------------------------------------------------------------------------------------------------------

@functools.cache
def anchors(page):
    """The headings' anchors, as GitHub makes them."""
    found = set()
    for heading in re.findall(r"^#+ +(.+?) *$", prose(page), re.MULTILINE):
        heading = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        own = re.sub(r"[^\w\- ]", "", heading).replace(" ", "-")
        number = 0
        while (one := f"{own}-{number}" if number else own) in found:
            number += 1
        found.add(one)
    return found


def test_anchors_are_those_of_github(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# 1. A `b.c`, (D) / e\n## Same\n## Same\n```\n# no heading\n```\n### 日本語、です\n", encoding="utf-8")
    assert anchors(page) == {"1-a-bc-d--e", "same", "same-1", "日本語です"}


@by_page(PAGES)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        place = (page.parent / path).resolve() if path else page
        assert place.exists(), f"{page.name} links to {target}: there is no {place}"
        assert not anchor or anchor in anchors(place), f"{page.name} links to {target}: {place.name} has no such heading"


@by_page(CURRENT)
def test_files_that_are_named_exist(page):
    for name in re.findall(r"`((?:slm|tests|docs|benchmarks|launch|configs|notebooks)/[\w./-]+)`", prose(page)):
        assert (ROOT / name).exists() or "NAME" in name, f"{page.name} names {name}"


# Configs and flags --------------------------------------------------------------------------------------------

CONFIG = re.compile(r"configs/([a-z_]+)\.py(?::(\w+(?:,[\w.]+=[\w./*-]+)*))?")
FLAG = re.compile(r"--config\.(\w+(?:\.\w+)*)")


@functools.cache
def module(name):
    path = ROOT / "configs" / f"{name}.py"
    assert path.exists(), f"there is no configs/{name}.py"
    spec = importlib.util.spec_from_file_location(f"config_{name}", path)
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


@functools.cache
def config(name, argument):
    return module(name).get_config(argument or None)


@functools.cache
def every_variant():
    names = sorted(path.stem for path in (ROOT / "configs").glob("*.py"))
    return [config(name, variant) for name in names for variant in module(name).VARIANTS]


def has(settings, name):
    """Whether a flag can set it."""
    *parents, last = name.split(".")
    for parent in parents:
        settings = settings.get(parent) if isinstance(settings, ml_collections.ConfigDict) else None
    return isinstance(settings, ml_collections.ConfigDict) and last in settings and not isinstance(
        settings[last], ml_collections.ConfigDict)


def problems(text):
    """Configs, variants and flags of a page that do not exist."""
    text, found = re.sub(r"\\\n\s*", " ", text), []
    for line in text.splitlines():
        named = [(match.end(), *match.groups()) for match in CONFIG.finditer(line)]
        for _, name, argument in named:
            try:
                config(name, argument)
            except (AssertionError, ValueError) as error:
                found.append(str(error))
        for flag in FLAG.finditer(line):
            # Of the command it belongs to; told alone, of any.
            before = [own for own in named if own[0] <= flag.start() and "`" not in line[own[0]:flag.start()]]
            try:
                candidates = [config(*before[-1][1:])] if before else every_variant()
            except (AssertionError, ValueError):
                continue  # told above
            if not any(has(own, flag[1]) for own in candidates):
                found.append(f"{flag[0]} is no setting of {':'.join(filter(None, before[-1][1:])) if before else 'any'}")
    return found


def test_what_does_not_exist_is_found():
    assert problems("configs/pretrain.py:huge") and problems("configs/nothing.py")
    assert problems("configs/pretrain.py:debug,train.stepz=3")
    assert problems("`--config=configs/chat.py \\\n    --config.train.steps=3`") == ["--config.train.steps is no setting of chat"]
    assert problems("`--config.nowhere=3`") and not problems("`--config.train.steps=3`")
    assert not problems("`configs/chat.py`, or `--config.train.steps=3`")
    assert problems("--config=configs/sft.py --config.sets.own.files=x")  # a set of another variant
    assert not problems("--config=configs/plan.py:ncvc_slm_1,topology=v5e-16/h100-8,remat=full/dots   # a table")


@by_page(CURRENT)
def test_configs_variants_and_flags_exist(page):
    assert problems(read(page)) == []


# Tests --------------------------------------------------------------------------------------------------------

def test_the_tests_that_equivalence_names_exist():
    named = re.findall(r"(tests/[\w/]+\.py)::(\w+)", read(ROOT / "docs/equivalence.md"))
    assert len(named) > 40
    for path, name in named:
        assert re.search(rf"^def {name}\(", (ROOT / path).read_text(encoding="utf-8"), re.MULTILINE), f"{path}::{name}"

"""Synthesised textbooks: a plan over diseases and drugs, written by a language model and filtered by gates.

The workdir's `items.jsonl` grows by one line an item, keyed by a hash of everything that decides its prompt: a rerun
asks only for missing items, so a run may be stopped, or its plan enlarged, at any time. The gates are applied at the
end of the run in the order of the plan, so that the order of the answers does not matter; `gates.jsonl` lists the gates
each item passed, and `documents.jsonl` holds the items that passed all, as one more source for a corpus.
"""

import asyncio
import collections
import dataclasses
import hashlib
import itertools
import json
import math
import random
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

from slm import files
from slm.corpus import benchmark_rows, lexicon
from slm.corpus import textbook_prompts as prompts
from slm.corpus.lexicon import Entry
from slm.corpus.textbook_gates import GatesConfig, gate, grams
from slm.corpus.textbook_items import Items
from slm.corpus.textbook_prompts import Item
from slm.corpus.textbook_writers import Endpoint, Generator, NoAnswer
from slm.progress import Progress
from slm.text import contamination

NOTICE = "【合成教材】この文章は計算機が合成したもので、臨床的な内容の検証を受けていません。"
FAILURES_IN_A_ROW = 20  # then the endpoint counts as down
DISTINCT_WINDOW = 2_000_000  # characters: the share of distinct n-grams falls with length, so runs need the same one


@dataclasses.dataclass(frozen=True)
class TextbooksConfig:
    """The textbooks job."""
    job: str = "textbooks"
    variant: str = "sample"
    lexicons: str = ""  # PATH[@LICENSE][,PATH…] of diseases and drugs; empty: those of the bundled tables
    size: int = 300  # items of the plan, drawn evenly; 0: all
    seed: int = 0
    backend: Literal["generator", "openai"] = "generator"  # the bundled tables, or a model behind an endpoint
    base_url: str = ""  # of an OpenAI-compatible server; no default, because it receives the prompts
    api_key_variable: str = ""  # of the environment, with the server's key; empty: OPENAI_API_KEY, for OpenAI only
    model: str = ""  # its name on the server
    license: str = ""  # of the text; empty: Apache-2.0 for the generator, unknown for a model
    temperature: float = 0.8
    max_tokens: int = 2000
    concurrency: int = 8  # requests at a time
    timeout: float = 600.0  # seconds a request
    retries: int = 3  # of a request, by the client
    benchmarks: str = ""  # GLOB[,GLOB…] of CSV and JSON Lines: items that hold one of their rows are rejected
    dry_run: bool = False  # writes `dry_run_items` items, and estimates the time and tokens of the whole plan
    dry_run_items: int = 8
    gates: GatesConfig = GatesConfig()

    def __post_init__(self):
        if self.size < 0 or self.concurrency < 1 or self.dry_run_items < 1:
            raise ValueError(f"size={self.size} must not be negative, concurrency={self.concurrency} and "
                             f"dry_run_items={self.dry_run_items} must be at least 1")


# The plan -----------------------------------------------------------------------------------------------------

def topics(config: TextbooksConfig) -> list[Entry]:
    """The diseases and drugs to write about, drugs without dose and maker, each once."""
    if config.lexicons and config.backend == "generator":
        raise ValueError(f"lexicons={config.lexicons!r} and backend='generator' conflict, which knows only the bundled "
                         "tables: leave lexicons empty, or name a model with backend=openai, base_url and model")
    entries = [dataclasses.replace(entry, surface=lexicon.bare_name(entry.surface) or entry.surface)
               if entry.kind == "drug" else entry for entry in lexicon.load(config.lexicons)]
    result = [entry for entry in lexicon.merge(entries) if entry.kind in prompts.SECTIONS]
    if not result:
        raise ValueError(f"lexicons={config.lexicons!r} hold no disease and no drug among {len(entries)} entries: name "
                         "a plain list diseases.txt or drugs.txt, as its name decides its kind")
    return result


def _slots(config: TextbooksConfig) -> dict[str, list[prompts.Slot]]:
    of_kind = prompts.generated_slots if config.backend == "generator" else prompts.slots
    return {kind: of_kind(kind) for kind in prompts.SECTIONS}


def plan(config: TextbooksConfig, entries: list[Entry]) -> Iterator[Item]:
    """Every term once before any term a second time; sections, readers and styles evenly.

    Item i depends only on the settings and i, so that a longer plan begins with the shorter one.
    """
    return itertools.islice(_all_items(config, entries), planned(config, entries))


def planned(config: TextbooksConfig, entries: list[Entry]) -> int:
    kinds, of_kind = collections.Counter(entry.kind for entry in entries), _slots(config)
    whole = sum(count * len(of_kind[kind]) for kind, count in kinds.items())
    return min(config.size, whole) if config.size else whole


def _all_items(config: TextbooksConfig, entries: list[Entry]) -> Iterator[Item]:
    of_kind = _slots(config)
    counts: collections.Counter[str] = collections.Counter()
    order = random.Random(config.seed).sample(entries, len(entries))
    ranks = []  # of each entry among those of its kind
    for entry in order:
        ranks.append(counts[entry.kind])
        counts[entry.kind] += 1
    # Strides of the golden section, coprime to the number of slots, visit each slot once in as many steps.
    strides = {kind: _coprime(len(slots)) for kind, slots in of_kind.items()}
    for turn in range(max(map(len, of_kind.values()))):
        for entry, rank in zip(order, ranks):
            slots = of_kind[entry.kind]
            if turn < len(slots):
                yield Item(entry, slots[(rank + turn) * strides[entry.kind] % len(slots)])


def _coprime(count: int) -> int:
    return next(n for n in range(round(count * 0.618), 2 * count + 2) if math.gcd(n, count) == 1)


# Writing -------------------------------------------------------------------------------------------------------

def key(backend: Generator | Endpoint, item: Item) -> str:
    """A hash of everything that decides the request for an item."""
    request = [backend.model, backend.request(item), backend.parameters, prompts.TEMPLATE]
    return hashlib.sha256(json.dumps(request, ensure_ascii=False).encode()).hexdigest()[:32]


async def _write(items: Items, missing: Iterable[Item], backend: Generator | Endpoint, failures: Path,
                 concurrency: int, bar: Progress) -> tuple[list[dict], int]:
    """Writes the missing items; returns the sizes of the written items, and the number of failed ones."""
    written: list[dict] = []
    failed = in_a_row = 0

    async def worker():
        nonlocal failed, in_a_row
        for item in missing:  # all workers take from one iterator
            topic, (section, reader, style) = item.topic, item.slot
            fields = {"key": key(backend, item), "term": topic.surface, "kind": topic.kind, "section": section,
                      "reader": reader, "style": style}
            try:
                answer = await backend.write(item)
            except NoAnswer as error:
                failed, in_a_row = failed + 1, in_a_row + 1
                file.write(json.dumps(fields | {"error": str(error)}, ensure_ascii=False) + "\n")
                file.flush()
                if in_a_row >= FAILURES_IN_A_ROW:
                    raise RuntimeError(f"{in_a_row} requests in a row failed, the last with {error}; {failures} lists "
                                       "them: fix the endpoint or the settings, and run the same command again to "
                                       "resume") from None
            else:
                in_a_row = 0
                items.append(fields | {
                    "text": answer.text, "whole": answer.whole, "tokens": answer.tokens, "model": backend.model,
                    "template": prompts.TEMPLATE, "sampling": backend.parameters, "term_source": topic.source,
                    "term_license": topic.license, "synthetic": True, "verification": "not clinically verified"})
                written.append({"tokens": answer.tokens, "characters": len(answer.text)})
            bar.update()

    with open(failures, "w", encoding="utf-8", errors="replace") as file:  # of this run only: the next one retries them
        try:
            await asyncio.gather(*(worker() for _ in range(concurrency)))
        finally:
            await backend.close()
    return written, failed


def _sizes(written: list[dict]) -> dict:
    """All tokens, as the endpoint counts them; characters if it does not."""
    unit = "tokens" if written and all(size["tokens"] for size in written) else "characters"
    return {"tokens": sum(size[unit] for size in written), "counted_in": unit}


# Gates --------------------------------------------------------------------------------------------------------

def _documents(items: Items, keys: dict[str, list[str]], config: GatesConfig, license: str, workdir: Path,
               contaminated: Callable[[str], bool] | None) -> dict:
    """Applies the gates, writes `gates.jsonl` and `documents.jsonl`, and counts."""
    passed: collections.Counter[str] = collections.Counter()
    window: list[str] = []
    sizes: list[dict] = []
    covered = accepted = 0
    paths = workdir / "gates.jsonl", workdir / "documents.jsonl"
    asides = [path.with_suffix(".writing") for path in paths]
    with open(asides[0], "w", encoding="utf-8") as gates, open(asides[1], "w", encoding="utf-8") as documents:
        for of_term in keys.values():  # in the order of the plan
            siblings: list[set[str]] = []
            for name in filter(items.offsets.__contains__, of_term):
                record = items.read(name)
                results = gate(record, siblings, config, contaminated)
                sizes.append({"tokens": record["tokens"], "characters": len(record["text"])})
                passed.update(results)
                gates.write(json.dumps({"key": name, "accepted": all(results.values()), "gates": results}) + "\n")
                if not all(results.values()):
                    continue
                siblings.append(set(grams(record["text"], 5)))
                documents.write(json.dumps({
                    "id": f"textbooks-{name}", "text": f"{NOTICE}\n{record['text']}", "source": "textbooks",
                    "license": license, "url": ""}, ensure_ascii=False) + "\n")
                accepted += 1
                if sum(len(text) for text in window) < DISTINCT_WINDOW:
                    window.append(record["text"])
            covered += bool(siblings)
    for aside, path in zip(asides, paths):
        aside.rename(path)
    sample_grams = [gram for text in window for gram in grams(text, 4)]
    return {"finished": len(sizes), "accepted": accepted, **_sizes(sizes), "terms_covered": covered,
            "pass_rates": {name: count / len(sizes) for name, count in passed.items()},
            "contamination_checked": contaminated is not None,
            "distinct_4grams": len(set(sample_grams)) / max(1, len(sample_grams))}


# The job ------------------------------------------------------------------------------------------------------

def run(config: TextbooksConfig, workdir: Path, http_client: Any = None) -> dict:
    """Writes the missing items of the plan, then `gates.jsonl`, `documents.jsonl`, `report.json`; returns the report.

    Args:
      http_client: of the endpoint's client, for tests.
    """
    index = contamination.Index.build(benchmark_rows.rows(config.benchmarks)) if config.benchmarks else None
    contaminated = (lambda text: index.find(text) is not None) if index else None
    backend: Endpoint | Generator
    if config.backend == "openai":
        sampling = {"temperature": config.temperature, "max_tokens": config.max_tokens, "seed": config.seed}
        backend = Endpoint(config.base_url, config.model, sampling, config.timeout, config.retries,
                           config.api_key_variable, http_client)
    else:
        backend = Generator(config.seed)
    entries = topics(config)
    total, keys, names = planned(config, entries), collections.defaultdict(list), []
    workdir.mkdir(parents=True, exist_ok=True)
    with Items(workdir / "items.jsonl") as items:
        for item in plan(config, entries):
            names.append(key(backend, item))
            keys[item.topic.surface].append(names[-1])
        finished = sum(name in items.offsets for name in names)
        missing: Iterator[Item] = (
            item for item, name in zip(plan(config, entries), names) if name not in items.offsets)
        wanted = min(config.dry_run_items, total - finished) if config.dry_run else total
        if config.dry_run:
            missing = itertools.islice(missing, config.dry_run_items)
        started = time.perf_counter()
        with Progress(total=wanted, initial=0 if config.dry_run else finished, desc="textbooks", unit="item") as bar:
            written, failed = asyncio.run(_write(items, missing, backend, workdir / "failures.jsonl",
                                                config.concurrency, bar))
        seconds = time.perf_counter() - started
        report = {
            "model": backend.model, "planned": total, "written": len(written), "failed": failed, "seconds": seconds,
            "items_per_second": len(written) / max(seconds, 1e-9), "terms": len(entries)}
        if config.dry_run:
            report |= _sizes(written)
            report |= _estimate(report, total - finished - len(written))
            print(json.dumps(report, indent=2, ensure_ascii=False))
            return report
        license = config.license or ("Apache-2.0" if config.backend == "generator" else "unknown")
        report |= _documents(items, keys, config.gates, license, workdir, contaminated)
    files.write_json(workdir / "report.json", report)
    print(json.dumps(report, indent=2, ensure_ascii=False))
    return report | {"documents": str(workdir / "documents.jsonl")}


def _estimate(report: dict, left: int) -> dict:
    """Estimates the rest of the plan at the rate of the items just written."""
    if not report["written"]:
        if left:
            raise RuntimeError(f"none of the {report['failed']} items of the dry run was written: see failures.jsonl "
                               "in the workdir, and fix the endpoint or the settings")
        print(f"textbooks: all {report['planned']:,} items of the plan are written already")
        return {"left": 0, "left_tokens": 0, "left_hours": 0.0}
    each = report["tokens"] / report["written"]
    hours = left / report["items_per_second"] / 3600
    print(f"textbooks: {report['written']} of {report['planned']:,} items were written as a measurement, and are "
          f"kept: {report['items_per_second']:.2f} items/s, {each:.0f} {report['counted_in']} each. The "
          f"{left:,} left take about {left * each:,.0f} {report['counted_in']} and {hours:.1f} hours")
    return {"left": left, "left_tokens": round(left * each), "left_hours": hours}

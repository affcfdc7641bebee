"""A function on many arguments, on several processes, with progress."""

import concurrent.futures
import contextlib
import multiprocessing
import os
from collections.abc import Callable, Iterable, Sequence

from slm.progress import Progress


def run(function: Callable, arguments: Sequence[tuple], description: str, processes: int = 0) -> list:
    """`[function(*a) for a in arguments]` on `processes` processes (0: one a core), with progress."""
    processes = min(processes or os.cpu_count() or 1, len(arguments))
    bar = Progress(total=len(arguments), desc=description, unit="shard")
    with bar, contextlib.ExitStack() as stack:
        if processes <= 1:
            results: Iterable = (function(*each) for each in arguments)
        else:
            # Spawned, not forked: jax may already run threads here.
            pool = stack.enter_context(concurrent.futures.ProcessPoolExecutor(
                processes, mp_context=multiprocessing.get_context("spawn")))
            results = pool.map(function, *zip(*arguments))
        collected = []
        for result in results:
            collected.append(result)
            bar.update()
    return collected

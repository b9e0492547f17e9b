"""One function over many items on all cores. Few items are not worth starting processes for."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

BATCH = 5_000
"""Items a process gets at a time."""


def over_batches(function: Callable[[Sequence[Item]], Result], items: Sequence[Item]) -> Iterator[Result]:
    """`function` of each batch of `items`, in their order. It must be a module's own, for processes find it by name."""
    batches = [items[start : start + BATCH] for start in range(0, len(items), BATCH)]
    cores = os.cpu_count() or 1
    if len(batches) < 2 or cores < 2:
        yield from map(function, batches)
        return
    # Fresh processes: forked ones would inherit the locks of threads that they do not have.
    with ProcessPoolExecutor(min(cores, len(batches)), get_context("spawn")) as pool:
        yield from pool.map(function, batches)

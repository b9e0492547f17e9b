"""What this machine has for a model: torch, a GPU, cores, memory. Asked without torch, which takes seconds to import."""

from __future__ import annotations

import ctypes
import os
import sys
from importlib.util import find_spec
from pathlib import Path

_CGROUPS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current", "/sys/fs/cgroup/memory.stat", "inactive_file"),
    (
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
        "/sys/fs/cgroup/memory/memory.usage_in_bytes",
        "/sys/fs/cgroup/memory/memory.stat",
        "total_inactive_file",
    ),
)
"""Of versions 2 and 1: where the limit is, what is used, and how much of that is cached files that give way."""


def has_torch() -> bool:
    """Whether torch is installed. The container image for CPUs is without it."""
    return find_spec("torch") is not None


def has_gpu() -> bool:
    """Whether there is a CUDA device that this process may use, as the driver says."""
    try:
        driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return False
    count = ctypes.c_int(0)
    return driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0 and count.value > 0


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def free_memory() -> int:
    """Bytes that can still be taken: of the machine, or of the container where that has less."""
    import psutil

    free = int(psutil.virtual_memory().available)
    for limit, used, statistics, cached in _CGROUPS:
        try:
            most, taken = Path(limit).read_text().strip(), int(Path(used).read_text())
            lines = dict(line.split()[:2] for line in Path(statistics).read_text().splitlines())
        except OSError:
            continue
        if most != "max":
            free = min(free, int(most) - taken + int(lines.get(cached, 0)))
    return max(0, free)

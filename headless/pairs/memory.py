"""How much main memory is left, for what a run keeps from one pair to the next."""

from __future__ import annotations

import re
from pathlib import Path

MEMINFO = Path("/proc/meminfo")
GROUP = Path("/sys/fs/cgroup")
LIMIT, USED, USED_FOR = GROUP / "memory.max", GROUP / "memory.current", GROUP / "memory.stat"


def free_bytes() -> float:
    """Bytes that may still be taken without pushing anything out; infinite where the system does not tell.

    Pages of files that nothing has touched for long (`inactive_file`) count as free, as they do for the kernel and for
    Kubernetes: reading a checkpoint fills the cache, and the system gives it back before anything is killed.
    """
    free = float("inf")
    try:
        found = re.search(r"^MemAvailable:\s+(\d+) kB$", MEMINFO.read_text(encoding="ascii"), re.MULTILINE)
        free = float("inf") if found is None else 1024.0 * int(found[1])
        limit = LIMIT.read_text(encoding="ascii").strip()
        if limit == "max":
            return free
        return min(free, float(limit) - float(USED.read_text(encoding="ascii")) + _cached())
    except (OSError, ValueError):  # another system, or no container
        return free


def _cached() -> float:
    """Bytes of files that the container may drop at any time; none where it does not tell."""
    try:
        found = re.search(r"^inactive_file (\d+)$", USED_FOR.read_text(encoding="ascii"), re.MULTILINE)
    except OSError:
        return 0.0
    return 0.0 if found is None else float(found[1])

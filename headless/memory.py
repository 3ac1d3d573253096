"""How much main memory is left, for what a run keeps from one pair to the next."""

from __future__ import annotations

import re
from pathlib import Path

MEMINFO = Path("/proc/meminfo")
LIMIT, USED = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")


def free_bytes() -> float:
    """Bytes that may still be taken without pushing anything out; infinite where the system does not tell."""
    free = float("inf")
    try:
        found = re.search(r"^MemAvailable:\s+(\d+) kB$", MEMINFO.read_text(encoding="ascii"), re.MULTILINE)
        free = float("inf") if found is None else 1024.0 * int(found[1])
        limit = LIMIT.read_text(encoding="ascii").strip()
        return free if limit == "max" else min(free, float(limit) - float(USED.read_text(encoding="ascii")))
    except (OSError, ValueError):  # another system, or no container
        return free

"""Survivors that no test could or should kill, and why: (file, before, after) -> reason."""

from __future__ import annotations

ACCEPTED: dict[tuple[str, str, str], str] = {
    ("core/attention.py", "weight <= LOG_ZERO + 1.0", "weight < LOG_ZERO + 1.0"): (
        "the threshold lies between nothing (-30) and the smallest weight that acts; no weight is exactly there"
    ),
    ("attention_patches/prefetch.py", "True", "False"): (
        "a copy that blocks gives the same features, later; only a clock beside a CUDA device could tell"
    ),
}

"""What became of the jobs of a run."""

from __future__ import annotations

from typing import NamedTuple

from ..failure import Failure
from .plan import Job


class Outcome(NamedTuple):
    """All jobs that were begun, and those that were given up."""

    made: list[Job]
    failed: list[Failure]

"""What became of the jobs of a run."""

from __future__ import annotations

from typing import NamedTuple

from .plan import Job


class Failure(NamedTuple):
    """A job that could not be done, and why, in one line."""

    job: Job
    reason: str


class Outcome(NamedTuple):
    """All jobs that were begun, and those that were given up."""

    made: list[Job]
    failed: list[Failure]

"""Units on a Ray cluster: an actor for each GPU (or core) keeps the model, and gets unit after unit as it is free.

An actor is handed units once it has answered that it can paint, so that no unit waits for one that has no machine. Ray
restarts actors that die; their units go to others. A machine that cannot paint stops itself, and its units go on. What
survives everything is the store, where a unit that has its manifest is left alone.
"""

from __future__ import annotations

import logging
import os
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from typing import Any

from ...core.errors import MagicStyleError, one_line
from ..failure import Failure
from .run import Paint
from .spec import RunSpec
from .units import Report, UnfitMachineError, Unit

EXTRA = '--ray needs Ray, which is not installed: pip install ".[ray]" in the folder of the pack brings it.'
logger = logging.getLogger("magicstyle")
TRIES = 4  # of a unit whose workers died, before it is given up
TRIES_OF_LOST = 2  # of a unit of which nothing was made
LOSSES = 3  # units that a worker loses as a whole, one after the other, before it gets no more
PAUSE, PATIENCE = 1.0, 180.0  # seconds between questions to a worker that has died, and until it is given up
CPU_SHARE = 0.8  # of a core that a worker takes, so that Ray's own tasks find room beside it
AUTO = "auto"
NONE_LEFT = "no machine of the cluster can paint; the lines above say why"


def check_ray() -> None:
    """Say what to install before anything is listed."""
    if find_spec("ray") is None:
        raise MagicStyleError(EXTRA)


class UnitActor:
    """A worker inside Ray: units in, reports out, both as text."""

    def __init__(self, spec: RunSpec) -> None:
        from .worker import Worker

        self._worker = Worker(spec)

    def check(self) -> str:
        """Why this machine cannot paint; nothing where it can."""
        try:
            self._worker.check()
        except UnfitMachineError as error:
            return str(error)
        return ""

    def paint(self, unit: str) -> str:
        """The line of a unit -> the line of its report."""
        return self._worker.paint(Unit.of(unit)).text


def painting_on_ray(spec: RunSpec, address: str, workers: int | None) -> Paint:
    """What paints units on a cluster; a unit that no report comes of is reported as lost."""

    def paint(units: Iterable[Unit]) -> Iterator[Report]:
        waiting = list(units)
        if not waiting:
            return
        _connect(address)
        crew = Crew(_actors(spec, workers), waiting)
        try:
            yield from crew.reports()
        finally:
            crew.dismiss()

    return paint


def _connect(address: str) -> None:
    import ray

    os.environ.setdefault("RAY_worker_niceness", "0")  # else workers run at the lowest priority
    if ray.is_initialized():
        return
    try:
        ray.init(address=address, logging_level="warning")
    except ConnectionError:
        if address != AUTO:
            raise MagicStyleError(f"no Ray cluster answers at {address}: start one with ray start --head.") from None
        ray.init(logging_level="warning")
    except Exception as error:
        raise MagicStyleError(f"the Ray cluster at {address} cannot be used ({one_line(error)}).") from None


def _actors(spec: RunSpec, wanted: int | None) -> list[Any]:
    """One for each GPU, or for each core; none of them holds a unit before it has a machine."""
    import ray

    found = ray.cluster_resources()
    gpus, cpus = int(found.get("GPU", 0)), int(found.get("CPU", 1))
    share = {"num_gpus": 1} if gpus else {"num_cpus": CPU_SHARE}
    actor = ray.remote(UnitActor).options(max_restarts=-1, max_task_retries=0, **share)
    return [actor.remote(spec) for _ in range(wanted or max(gpus or cpus, 1))]


class Crew:
    """The actors of a run, what each of them does now, and the units that are left."""

    def __init__(self, actors: Iterable[Any], units: Iterable[Unit]) -> None:
        self._waiting = deque(units)
        self._tries: Counter[str] = Counter()  # of units that came back
        self._losses: Counter[Any] = Counter()  # of an actor, one after the other
        self._painting: dict[Any, tuple[Any, Unit]] = {}  # by the report to come
        self._checking: dict[Any, Any] = {}  # actors that have not answered yet, by the answer to come
        self._gone: dict[Any, float] = {}  # actors that did not answer, and since when
        self._idle: list[Any] = []
        for actor in actors:
            self._ask(actor)

    def reports(self) -> Iterator[Report]:
        """A report for every unit, as they come."""
        while self._painting or (self._waiting and (self._checking or self._gone)):
            for done in self._next():
                if done in self._checking:
                    self._checked(done)
                elif (report := self._painted(done)) is not None:
                    yield report
            while self._waiting and self._idle:
                actor, unit = self._idle.pop(), self._waiting.popleft()
                self._painting[actor.paint.remote(unit.text)] = actor, unit
        for unit in self._waiting:
            yield Report(unit.name, 0, (Failure(None, None, NONE_LEFT),), stop=NONE_LEFT)

    def dismiss(self) -> None:
        """End all actors."""
        import ray

        for actor in {*self._idle, *self._gone, *self._checking.values(), *(a for a, _ in self._painting.values())}:
            ray.kill(actor)

    def _ask(self, actor: Any) -> None:
        self._checking[actor.check.remote()] = actor

    def _next(self) -> list[Any]:
        """What has ended; actors that did not answer are checked again after a while."""
        import ray

        for actor in self._gone.keys() - {*self._checking.values()}:
            self._ask(actor)
        refs = [*self._painting, *self._checking]
        return ray.wait(refs, num_returns=1, timeout=PAUSE if self._gone else None)[0]

    def _checked(self, done: Any) -> None:
        """An actor has answered: it can paint, or stops; one that has died answers once Ray has started it again."""
        import ray

        actor = self._checking.pop(done)
        try:
            unfit = ray.get(done)
        except ray.exceptions.RayError as error:
            if time.monotonic() - self._gone.setdefault(actor, time.monotonic()) > PATIENCE:
                self._stop(actor, f"a worker has not come back in {PATIENCE:.0f} seconds ({one_line(error)})")
            time.sleep(PAUSE)
            return
        self._gone.pop(actor, None)
        if unfit:
            self._stop(actor, unfit)
        else:
            self._idle.append(actor)

    def _painted(self, done: Any) -> Report | None:
        """A unit has ended: its report, or None where it is handed back."""
        import ray

        actor, unit = self._painting.pop(done)
        try:
            report = Report.of(ray.get(done))
        except ray.exceptions.RayError:
            self._ask(actor)
            died = f"its worker died {TRIES} times: see Ray's log."
            return self._handed_back(Report(unit.name, 0, (Failure(None, None, died),)), unit, TRIES)
        if report.unfit:
            self._stop(actor, report.unfit)
            self._waiting.appendleft(unit)
            return None
        self._losses[actor] = self._losses[actor] + 1 if report.is_lost else 0
        others = self._painting or self._checking or self._idle
        if self._losses[actor] >= LOSSES and others:
            self._stop(actor, f"a worker lost {LOSSES} units one after the other ({report.failed[0].reason})")
        else:
            self._idle.append(actor)
        return self._handed_back(report, unit, TRIES_OF_LOST) if report.is_lost and not report.stop else report

    def _handed_back(self, report: Report, unit: Unit, most: int) -> Report | None:
        """None where a unit is tried again, after the others; else its last report."""
        self._tries[unit.name] += 1
        if self._tries[unit.name] >= most:
            return report
        self._waiting.append(unit)
        return None

    def _stop(self, actor: Any, why: str) -> None:
        import ray

        logger.warning("magicstyle: %s. It gets no units, the others go on.", why.rstrip("."))
        self._gone.pop(actor, None)
        ray.kill(actor)

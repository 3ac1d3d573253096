"""Units on a Ray cluster: an actor for each GPU (or core) keeps the model, Ray Data hands it unit after unit.

Ray restarts actors that die. Their units are lost to that round and go into the next one, on what is left of the
cluster; what survives everything is the store, where a unit that has its manifest is left alone.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from typing import Any

import numpy as np

from ..core.errors import MagicStyleError, one_line
from .campaign import Paint
from .commission import Commission
from .units import Lost, Report, Unit

EXTRA = '--ray needs Ray, which is not installed: pip install ".[ray]" in the folder of the pack brings it.'
logger = logging.getLogger("magicstyle")
ROUNDS = 4  # for units whose workers died, before they are given up
MOST_BLOCKS = 4096  # of Ray Data, which holds a few facts of each
CPU_SHARE = 0.8  # of a core that a worker takes, so that Ray's own tasks find room beside it
AUTO = "auto"


def check_ray() -> None:
    """Say what to install before anything is listed."""
    if find_spec("ray") is None:
        raise MagicStyleError(EXTRA)


class UnitActor:
    """A worker inside Ray: units in, reports out, both as text."""

    def __init__(self, asked: Commission) -> None:
        from .worker import Worker

        self._worker = Worker(asked)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """A batch of lines of units -> a batch of lines of reports."""
        reports = [self._worker.paint(Unit.of(str(text))).text for text in batch["unit"]]
        return {"report": np.array(reports, dtype=object)}


def painting_on_ray(asked: Commission, address: str, workers: int | None) -> Paint:
    """What paints units on a cluster; a unit that no report comes of is reported as lost."""

    def paint(units: Iterable[Unit]) -> Iterator[Report]:
        left = {unit.name: unit for unit in units}
        if left:
            _connect(address)
        for _ in range(ROUNDS):
            for report in _reports(asked, list(left.values()), workers) if left else ():
                left.pop(report.unit, None)
                yield report
        for name in left:
            yield Report(name, 0, (Lost(None, None, f"its worker died {ROUNDS} times: see Ray's log."),))

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


def _reports(asked: Commission, units: list[Unit], workers: int | None) -> Iterator[Report]:
    """Reports as they come; many blocks, since few would all go to the actor that is ready first."""
    import ray.data
    import ray.exceptions

    context = ray.data.DataContext.get_current()
    context.max_errored_blocks = -1  # a unit that kills its workers does not end the run
    context.enable_progress_bars = False
    blocks = min(len(units), MOST_BLOCKS)
    lines = ray.data.from_items([{"unit": unit.text} for unit in units], override_num_blocks=blocks)
    painted = lines.map_batches(
        UnitActor,
        batch_size=1,
        fn_constructor_kwargs={"asked": asked},
        compute=ray.data.ActorPoolStrategy(size=_workers(workers), max_tasks_in_flight_per_actor=1),
        max_restarts=-1,
        max_task_retries=0,  # a unit must not wait for its own worker where a lost machine leaves no room for it
        **_resources(),
    )
    try:
        for row in painted.iter_rows():
            yield Report.of(row["report"])
    except ray.exceptions.RayError as error:  # of a machine that took its reports along: the next round asks again
        logger.warning("magicstyle: a round on Ray ended early (%s)", one_line(error))


def _workers(wanted: int | None) -> int:
    import ray

    resources = ray.cluster_resources()
    return wanted or max(int(resources.get("GPU", 0)) or int(resources.get("CPU", 1)), 1)


def _resources() -> dict[str, float]:
    import ray

    return {"num_gpus": 1} if ray.cluster_resources().get("GPU", 0) >= 1 else {"num_cpus": CPU_SHARE}

"""Many styles: the pairs of a plan in blocks, painted in lockstep, so that memory does not grow with the styles."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from torch import Tensor

from ...core.errors import MagicStyleError
from ..console import Console
from ..engine.blocks import HELD, BlockShape, rows_at_once
from ..engine.lockstep import paint_block
from ..engine.model import HeadlessModel
from ..engine.session import reason
from ..engine.stylize import InvertedPicture
from ..failure import Failure
from .jobs import NoPlaceToWriteError, PairRunner, kept, run_pairs
from .outcome import Outcome
from .plan import FolderPlan, Job, Order, OutputNames, Picture

Role = Literal["content", "style"]
InvertedByPath = Mapping[Path, InvertedPicture | MagicStyleError]


class Block(NamedTuple):
    """Contents that all lack the same styles."""

    contents: list[Picture]
    styles: list[Picture]
    jobs: list[Job]


def run(plan: FolderPlan, model: HeadlessModel, order: Order, console: Console) -> Outcome:
    """Make the pictures: pair by pair where the features of all styles may be held, else block by block."""
    styles = dict.fromkeys(job.style.path for job in plan.missing)
    if order.block is None and len(styles) <= HELD:
        if order.batch is not None:
            console.note(f"--batch is for blocks, which up to {HELD} styles are not painted in: add --block for it.")
        return run_pairs(plan, model, order, console)
    before, outcome = model.rows, _run_blocks(plan, model, order, console)
    if outcome.made:
        rows, count = model.rows - before, len(outcome.made)
        console.progress(f"{rows} rows through the model, {rows / count:.1f} for each of {count} pictures")
    return outcome


def _run_blocks(plan: FolderPlan, model: HeadlessModel, order: Order, console: Console) -> Outcome:
    runner, outcome = BlockRunner(model, order, plan.names, console), Outcome([], [])
    blocks = list(blocks_of(plan.missing, order.block or BlockShape()))
    for number, block in enumerate(blocks, start=1):
        shown = f"{len(block.contents)} portraits x {len(block.styles)} styles"
        console.progress(f"block {number} of {len(blocks)}: {shown}")
        try:
            for found in runner.paint(block):
                _tell(found, outcome, order, console)
        except NoPlaceToWriteError as error:
            done = {*(job.pair for job in outcome.made), *(failure[:2] for failure in outcome.failed)}
            outcome.failed.extend(job.failed(str(error)) for job in plan.missing if job.pair not in done)
            break
    return outcome


def _tell(found: Job | Failure, outcome: Outcome, order: Order, console: Console) -> None:
    if isinstance(found, Failure):
        outcome.failed.append(found)
        return
    outcome.made.append(found)
    for path in [found.result, found.sheet][: 1 + order.sheet]:
        console.result(path)


def blocks_of(jobs: Sequence[Job], shape: BlockShape) -> Iterator[Block]:
    """Jobs as blocks of at most this shape, all blocks of the same styles one after the other."""
    styles = list(dict.fromkeys(job.style for job in jobs))
    for start in range(0, len(styles), shape.styles):
        slice_of = set(styles[start : start + shape.styles])
        alike: dict[tuple[Picture, ...], dict[Picture, list[Job]]] = {}
        for content, own in _by_content(job for job in jobs if job.style in slice_of).items():
            alike.setdefault(tuple(job.style for job in own), {})[content] = own
        for lacking, rows in alike.items():
            contents = list(rows)
            for first in range(0, len(contents), shape.contents):
                chosen = contents[first : first + shape.contents]
                yield Block(chosen, list(lacking), [job for content in chosen for job in rows[content]])


def _by_content(jobs: Iterator[Job]) -> dict[Picture, list[Job]]:
    found: dict[Picture, list[Job]] = {}
    for job in jobs:
        found.setdefault(job.content, []).append(job)
    return found


class BlockRunner(PairRunner):
    """A runner that keeps the latents of inversions, a thousandth of their features, and paints blocks."""

    def __init__(self, model: HeadlessModel, order: Order, names: OutputNames, console: Console) -> None:
        super().__init__(model, order, names, console)
        self._rows = order.batch or rows_at_once(model.device)
        self._known: dict[Path, InvertedPicture | MagicStyleError] = {}

    def paint(self, block: Block) -> Iterator[Job | Failure]:
        """The jobs of a block one after the other, each as it is done or has failed."""
        styles = self._inverted("style", block.styles)
        inverted = {**self._inverted("content", block.contents), **styles}
        masks = self._masks(block.contents, inverted)
        self._known = dict(styles)
        good: list[Job] = []
        for job in block.jobs:
            bad = [found for path in _paths(job) if isinstance(found := inverted[path], MagicStyleError)]
            if bad:
                yield job.failed(reason(bad[0]))
            else:
                good.append(job)
        if good:
            yield from self._painted(block, good, inverted, masks)

    def _masks(
        self, contents: Sequence[Picture], inverted: dict[Path, InvertedPicture | MagicStyleError]
    ) -> dict[Path, Tensor | None]:
        """The contents' masks 1 h w; a content whose mask cannot be read has failed, the others of a block go on."""
        found: dict[Path, Tensor | None] = {}
        for content in contents:
            try:
                found[content.path] = kept(content)
            except MagicStyleError as error:
                inverted[content.path] = error
        return found

    def _painted(
        self, block: Block, jobs: Sequence[Job], inverted: InvertedByPath, masks: Mapping[Path, Tensor | None]
    ) -> Iterator[Job | Failure]:
        whole = {path: found for path, found in inverted.items() if not isinstance(found, MagicStyleError)}
        contents, styles = ([p.path for p in side if p.path in whole] for side in (block.contents, block.styles))
        try:
            with self._session.progress(f"paint {len(contents)} x {len(styles)}") as callback:
                features = {path: found.features for path, found in whole.items()}
                sides = [features[path] for path in contents], [features[path] for path in styles]
                own = [masks[path] for path in contents]
                latents = paint_block(self._model, *sides, self._order.recipe, self._rows, callback, own)
        except Exception as error:  # the next block may still succeed
            yield from (job.failed(reason(error)) for job in jobs)
            return
        for job in jobs:
            latent = latents[contents.index(job.content.path), styles.index(job.style.path)]
            yield self._kept(job, latent, whole[job.content.path])

    def _kept(self, job: Job, latent: Tensor, content: InvertedPicture) -> Job | Failure:
        """Decode a latent 1 c h w and write its files."""
        try:
            return self.keep(job, self._session.picture(latent, "the result"), content)
        except NoPlaceToWriteError:
            raise
        except Exception as error:
            return job.failed(reason(error))

    def _inverted(self, role: Role, pictures: Sequence[Picture]) -> dict[Path, InvertedPicture | MagicStyleError]:
        return {
            picture.path: self._known.get(picture.path) or self._invert(role, picture, "latents")
            for picture in pictures
        }


def _paths(job: Job) -> tuple[Path, Path]:
    return job.content.path, job.style.path

"""A small training loop that can be stopped and continued: state lives in safetensors, never in a pickle.

Several processes with one thread each share the batch: on a busy machine threads that wait for each other at every
operation lose far more than processes that meet once per step.
"""

from __future__ import annotations

import math
import multiprocessing
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch import distributed as dist

MOMENTS = ("exp_avg", "exp_avg_sq")


@dataclass(frozen=True)
class TrainingSettings:
    """How long and how fast to train; the data of step i depend on (seed, i) only."""

    steps: int
    batch: int
    learning_rate: float
    warmup: int = 200
    clip: float = 1.0
    weight_decay: float = 0.01
    ema_decay: float = 0.999
    seed: int = 0
    save_seconds: float = 150.0
    log_every: int = 100

    def rate(self, step: int) -> float:
        """Learning rate: linear warmup, then a cosine to one percent."""
        rise = min(1.0, (step + 1) / self.warmup)
        return self.learning_rate * rise * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * step / self.steps)))


def rank() -> int:
    """Number of this process among those that train together."""
    return dist.get_rank() if dist.is_initialized() else 0


def processes() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def _join(number: int, count: int, meeting: str, stage: Callable[[Path], None], work: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=number, world_size=count)
    stage(work)
    dist.destroy_process_group()


def run_together(count: int, stage: Callable[[Path], None], work: Path) -> None:
    """Run a training stage in this process and count - 1 others."""
    torch.set_num_threads(1)
    if count == 1:
        return stage(work)
    with tempfile.TemporaryDirectory() as folder:
        shared = (count, str(Path(folder) / "meeting"), stage, work)
        context = multiprocessing.get_context("spawn")
        others = [context.Process(target=_join, args=(number, *shared), daemon=True) for number in range(1, count)]
        for other in others:
            other.start()
        _join(0, *shared)
        for other in others:
            other.join()
    return None


class Trainer:
    """A model, its optimiser, the moving average of its weights, and the file that all of them survive in."""

    def __init__(self, model: nn.Module, settings: TrainingSettings, path: Path) -> None:
        self.model, self.settings, self.path = model, settings, path
        self.named = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self.average = {name: p.detach().clone() for name, p in self.named.items()}
        self.optimizer = torch.optim.AdamW(
            self.named.values(), lr=settings.learning_rate, betas=(0.9, 0.99), weight_decay=settings.weight_decay
        )
        self.step, self.seconds = 0, 0.0
        if path.exists():
            self._load()

    def _load(self) -> None:
        state = load_file(self.path)
        with safe_open(self.path, "pt") as file:
            meta = file.metadata()
        self.step, self.seconds = int(meta["step"]), float(meta["seconds"])
        with torch.no_grad():
            for name, p in self.named.items():
                p.copy_(state[f"model.{name}"])
                self.average[name].copy_(state[f"average.{name}"])
                moments = {key: state[f"{key}.{name}"].clone() for key in MOMENTS}
                self.optimizer.state[p] = {"step": torch.tensor(float(self.step)), **moments}

    def save(self) -> None:
        """Write everything needed to continue; the old file is replaced in one move."""
        if rank():
            return
        state: dict[str, Tensor] = {}
        for name, p in self.named.items():
            state[f"model.{name}"], state[f"average.{name}"] = p.detach().contiguous(), self.average[name].contiguous()
            for key in MOMENTS:
                moment = self.optimizer.state[p].get(key)  # none before the first step
                state[f"{key}.{name}"] = torch.zeros_like(p) if moment is None else moment.contiguous()
        fresh = self.path.with_suffix(".part")
        save_file(state, fresh, {"step": str(self.step), "seconds": str(self.seconds)})
        fresh.replace(self.path)

    def _share_gradients(self, stop: bool) -> bool:
        """Average the gradients over all processes -> whether any process wants to stop."""
        if not dist.is_initialized():
            return stop
        gradients = [p.grad for p in self.named.values()]
        flat = torch.cat([*(g.flatten() for g in gradients), torch.tensor([float(stop)])])
        dist.all_reduce(flat)
        flat /= dist.get_world_size()
        for gradient, part in zip(gradients, flat[:-1].split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(part.view_as(gradient))
        return float(flat[-1]) > 0

    def _update(self, loss: Tensor, stop: bool) -> bool:
        """One step of the optimiser -> whether to stop after it."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.rate(self.step)
        self.optimizer.zero_grad()
        loss.backward()
        stop = self._share_gradients(stop)
        nn.utils.clip_grad_norm_(self.named.values(), self.settings.clip)
        self.optimizer.step()
        # a short memory at first, so that the average forgets the initial weights
        keep = min(self.settings.ema_decay, (1 + self.step) / (10 + self.step))
        torch._foreach_lerp_(list(self.average.values()), [p.detach() for p in self.named.values()], 1 - keep)
        return stop

    def run(self, loss_of_step: Callable[[int], Tensor]) -> Iterator[tuple[int, float]]:
        """Train to the end or to a termination signal -> (step, mean loss) every `log_every` steps."""
        losses: list[float] = []
        stopping = threading.Event()
        signal.signal(signal.SIGTERM, lambda *_: stopping.set())
        last_save = clock = time.monotonic()
        while self.step < self.settings.steps:
            loss = loss_of_step(self.step)
            stop = self._update(loss, stopping.is_set())
            losses.append(float(loss.detach()))
            self.step += 1
            now = time.monotonic()
            self.seconds, clock = self.seconds + now - clock, now
            if now - last_save > self.settings.save_seconds or self.step == self.settings.steps or stop:
                self.save()
                last_save = now
            if stop:
                return
            if self.step % self.settings.log_every == 0:
                yield self.step, sum(losses) / len(losses)
                losses = []


def load_average(model: nn.Module, path: Path) -> dict[str, str]:
    """Put the averaged weights of a training state into a model -> the state's header."""
    state = load_file(path)
    prefix = "average."
    model.load_state_dict({name.removeprefix(prefix): t for name, t in state.items() if name.startswith(prefix)})
    with safe_open(path, "pt") as file:
        return dict(file.metadata())

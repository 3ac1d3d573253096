"""Which rendering technique a picture shows: a small classifier that has seen nothing but the demo models' drawings.

    python -m benchmarks.technique --work DIR     train it on the drawings in DIR and judge it

The weights lie beside this file; training draws the pictures on first use and takes a few minutes on one core.
Pictures are b 3 h w in 0..1, 256 pixels wide.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from magicstyle.tools.demo_model.dataset import training_pictures
from magicstyle.tools.demo_model.techniques import NAMES, drawing, technique_of
from magicstyle.tools.demo_model.train import PICTURES
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

WEIGHTS = Path(__file__).with_name("technique.safetensors")
FORMAT = "magicstyle-technique-1"
WIDTHS = (24, 32, 48, 64, 96)
JUDGED, JUDGED_SEED = 40, 2_000_000  # held-out drawings of each technique
EPOCHS, BATCH, CROP, RATE = 10, 32, 128, 4e-3


class TechniqueNet(nn.Module):
    """Halves the picture five times and asks what its textures are on average: b 3 h w -> one score per technique."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for c_in, c_out in zip((3, *WIDTHS), WIDTHS, strict=False):
            layers += [
                nn.Conv2d(c_in, c_out, 5 if c_in == 3 else 3, stride=2, padding=1),
                nn.GroupNorm(8, c_out),
                nn.SiLU(),
            ]
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(2 * WIDTHS[-1], len(NAMES))

    def forward(self, x: Tensor) -> Tensor:
        y = self.body(2 * x - 1)
        return self.head(torch.cat([y.mean(dim=(2, 3)), y.std(dim=(2, 3))], dim=1))


@cache
def technique_net() -> TechniqueNet:
    """The trained classifier."""
    net = TechniqueNet()
    net.load_state_dict({name: tensor.float() for name, tensor in load_file(WEIGHTS).items()})
    return net.eval()


@torch.inference_mode()
def techniques(pictures: Tensor) -> list[str]:
    """What each picture b 3 h w in 0..1 is rendered in."""
    net = technique_net()
    return [NAMES[i] for part in pictures.split(BATCH) for i in net(part).argmax(dim=1).tolist()]


def to_tensor(drawn: np.ndarray) -> Tensor:
    """Drawings b h w 3, uint8 -> b 3 h w in 0..1."""
    return torch.from_numpy(np.ascontiguousarray(drawn)).permute(0, 3, 1, 2).contiguous().float() / 255


def augmented(x: Tensor, rng: torch.Generator) -> Tensor:
    """Mirrored, with swapped colours, a little blurred, noisy, lighter or darker: what must not matter."""
    if torch.rand(1, generator=rng) < 0.5:
        x = x.flip(-1)
    x = x[:, torch.randperm(3, generator=rng)]
    share = torch.rand(len(x), 1, 1, 1, generator=rng) * 0.8
    x = torch.lerp(x, F.avg_pool2d(x, 3, 1, 1, count_include_pad=False), share)
    gain, shift = (torch.rand(len(x), 1, 1, 1, generator=rng) for _ in range(2))
    return (x * (0.8 + 0.4 * gain) + 0.2 * (shift - 0.5) + 0.02 * torch.randn(x.shape, generator=rng)).clamp(0, 1)


def batches(pictures: np.ndarray, labels: Tensor, rng: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """One epoch in random order, a random part of every picture."""
    for picks in torch.randperm(len(pictures), generator=rng).split(BATCH):
        y, x = torch.randint(pictures.shape[1] - CROP + 1, (2,), generator=rng).tolist()
        crops = np.stack([pictures[i, y : y + CROP, x : x + CROP] for i in picks.tolist()])
        yield augmented(to_tensor(crops), rng), labels[picks]


def train(work: Path) -> TechniqueNet:
    """Train the classifier and write its weights."""
    torch.manual_seed(0)
    pictures, rng = training_pictures(work, PICTURES), torch.Generator().manual_seed(0)
    labels = torch.tensor([NAMES.index(technique_of(seed)) for seed in range(len(pictures))])
    net, steps = TechniqueNet(), EPOCHS * -(-len(pictures) // BATCH)
    optimizer = torch.optim.AdamW(net.parameters(), lr=RATE, weight_decay=0.02)
    curve = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps)
    for epoch in range(EPOCHS):
        right = 0
        for x, wanted in batches(pictures, labels, rng):
            scores = net(x)
            loss = F.cross_entropy(scores, wanted, label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            curve.step()
            right += int((scores.argmax(dim=1) == wanted).sum())
        print(f"epoch {epoch + 1}: {right / len(pictures):.3f} right", flush=True)
    save_file(
        {name: t.half() for name, t in net.state_dict().items()}, WEIGHTS, {"format": FORMAT, "names": ",".join(NAMES)}
    )
    return net


def judge() -> str:
    """How often the written classifier is right on held-out drawings of each technique, in Markdown."""
    lines, shares = ["| technique | right |", "| --- | ---: |"], []
    for number, name in enumerate(NAMES):
        first = JUDGED_SEED + number * JUDGED
        drawn = np.stack([drawing(first + i, name).image for i in range(JUDGED)])
        shares.append(sum(found == name for found in techniques(to_tensor(drawn))) / JUDGED)
        lines.append(f"| {name} | {shares[-1]:.3f} |")
    return "\n".join([*lines, f"| **all** | {sum(shares) / len(shares):.3f} |"]) + "\n"


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, help="folder with the drawings; without it the written weights are judged")
    work = parser.parse_args().work
    if work:
        train(work)
    print(judge())


if __name__ == "__main__":
    main()

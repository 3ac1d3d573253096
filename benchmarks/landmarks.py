"""Where eyes, brows, nose and mouth are in a picture: a small network that knows the demo models' drawings alone.

    python -m benchmarks.landmarks --work DIR --minutes 5     train it (again) on the drawings in DIR and judge it
    python -m benchmarks.landmarks                            judge it

The drawing script says exactly where it put the features of a face; the network learns to say so for drawings in all
techniques and is judged on others. The weights lie beside this file. Pictures are b 3 h w in 0..1, 256 pixels wide.
Points are (x, y) in these pixels.
"""

from __future__ import annotations

import argparse
import time
from functools import cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from magicstyle.tools.demo_model.dataset import training_pictures
from magicstyle.tools.demo_model.landmarks import LANDMARKS, Face, face_of
from magicstyle.tools.demo_model.techniques import NAMES, drawing
from magicstyle.tools.demo_model.train import PICTURES
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from .measures import smaller

WEIGHTS = Path(__file__).with_name("landmarks.safetensors")
FORMAT = "magicstyle-landmarks-1"
CELL = 2  # pixels whose mean the network sees as one
# the part of a picture that can hold a face, in the network's pixels: every picture's, so that it tells nothing
TOP, LEFT, HEIGHT, WIDTH = 10, 20, 96, 88
SHIFT = 6  # training moves that part by up to so much
WIDTHS = (24, 48, 64)
MIRRORED = (1, 0, 5, 4, 3, 2, 6, 8, 7, 9)  # the landmarks of a mirrored face, in their order
JUDGED, JUDGED_SEED = 16, 2_000_000  # held-out drawings of each technique
BATCH, RATE = 32, 3e-3


class Block(nn.Sequential):
    """A convolution, normalised."""

    def __init__(self, c_in: int, c_out: int, kernel: int = 3, stride: int = 1, dilation: int = 1) -> None:
        padding = dilation * (kernel // 2)
        super().__init__(nn.Conv2d(c_in, c_out, kernel, stride, padding, dilation), nn.GroupNorm(8, c_out), nn.SiLU())


class LandmarkNet(nn.Module):
    """Halves its part of a picture three times, grows back twice, and takes the mean place of each landmark's heat."""

    def __init__(self) -> None:
        super().__init__()
        fine, middle, coarse = WIDTHS
        self.fine, self.middle = Block(3, fine, 5, 2), Block(fine, middle, 3, 2)
        self.coarse = nn.Sequential(
            Block(middle, coarse, 3, 2), Block(coarse, coarse), Block(coarse, coarse, dilation=2), Block(coarse, coarse)
        )
        self.up_middle = nn.Sequential(Block(coarse + middle, middle, 1), Block(middle, middle))
        self.up_fine = nn.Sequential(Block(middle + fine, fine, 1), Block(fine, fine))
        self.heat = nn.Conv2d(fine, len(LANDMARKS), 1)

    def heat_of(self, x: Tensor) -> Tensor:
        """Parts b 3 h w in 0..1 -> b n h/2 w/2."""
        fine = self.fine(2 * x - 1)
        middle = self.middle(fine)
        grown = self.up_middle(torch.cat([_as_large(self.coarse(middle), middle), middle], dim=1))
        return self.heat(self.up_fine(torch.cat([_as_large(grown, fine), fine], dim=1)))

    def forward(self, x: Tensor) -> Tensor:
        """Parts b 3 h w in 0..1 -> points b n 2 in their pixels."""
        return mean_place(self.heat_of(x))


def mean_place(heat: Tensor) -> Tensor:
    """Where the softmax of each heat b n h w has its mean, in pixels of a picture twice as large -> b n 2."""
    share = heat.flatten(2).softmax(dim=2).view_as(heat)
    y, x = (2 * torch.arange(side).to(heat) + 1 for side in heat.shape[2:])
    return torch.stack([share.sum(dim=2) @ x, share.sum(dim=3) @ y], dim=2)


def off_place(heat: Tensor, points: Tensor) -> Tensor:
    """The cross entropy of each heat b n h w and a spot of a cell's width at its point -> b n."""
    y, x = (2 * torch.arange(side).to(heat) + 1 for side in heat.shape[2:])
    away = (x - points[..., None, :1]).square() + (y[:, None] - points[..., None, 1:]).square()
    spot = (-away / 8).flatten(2).softmax(dim=2)
    return -(spot * heat.flatten(2).log_softmax(dim=2)).sum(dim=2)


def _as_large(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, size=like.shape[2:], mode="bilinear")


@cache
def landmark_net() -> LandmarkNet:
    """The trained network."""
    net = LandmarkNet()
    net.load_state_dict({name: tensor.float() for name, tensor in load_file(WEIGHTS).items()})
    return net.eval()


@torch.inference_mode()
def find_landmarks(pictures: Tensor) -> Tensor:
    """Where the network sees the landmarks of pictures b 3 h w in 0..1 -> b n 2."""
    seen = smaller(pictures, CELL)[:, :, TOP : TOP + HEIGHT, LEFT : LEFT + WIDTH]
    points = torch.cat([landmark_net()(part) for part in seen.split(BATCH)])
    return (points + points.new_tensor([LEFT, TOP])) * CELL


def landmark_error(found: Tensor, faces: list[Face]) -> Tensor:
    """The mean distance of the visible landmarks b n 2 from where they are, in pixels -> b."""
    true = torch.stack([torch.from_numpy(face.points).float() for face in faces])
    seen = torch.stack([torch.from_numpy(face.visible).float() for face in faces])
    return ((found - true).norm(dim=2) * seen).sum(dim=1) / seen.sum(dim=1)


def training_parts(work: Path) -> tuple[Tensor, Tensor, Tensor]:
    """The parts of the training pictures with a rim of SHIFT, n 3 h w, uint8; landmarks in them n k 2; visible n k."""
    pictures, rim = training_pictures(work, PICTURES), SHIFT
    parts = []
    for some in np.array_split(pictures, 40):
        small = smaller(torch.from_numpy(np.array(some)).permute(0, 3, 1, 2).float(), CELL)
        cut = small[:, :, TOP - rim : TOP + HEIGHT + rim, LEFT - rim : LEFT + WIDTH + rim]
        parts.append(cut.round().to(torch.uint8))
    faces = [face_of(seed) for seed in range(len(pictures))]
    points = torch.from_numpy(np.stack([face.points for face in faces])).float() / CELL
    visible = torch.from_numpy(np.stack([face.visible for face in faces])).float()
    return torch.cat(parts), points - points.new_tensor([LEFT - rim, TOP - rim]), visible


def augmented(x: Tensor, points: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Moved, mirrored, with swapped colours, blurred, noisy, lighter or darker: what must not matter."""
    dy, dx = torch.randint(2 * SHIFT + 1, (2,), generator=rng).tolist()
    x, points = x[:, :, dy : dy + HEIGHT, dx : dx + WIDTH].float() / 255, points - points.new_tensor([dx, dy])
    if torch.rand(1, generator=rng) < 0.5:
        x, points = x.flip(3), (points.new_tensor([WIDTH, 0]) - points * points.new_tensor([1, -1]))[:, MIRRORED]
    x = x[:, torch.randperm(3, generator=rng)]
    share, gain, shift = (torch.rand(len(x), 1, 1, 1, generator=rng) for _ in range(3))
    x = torch.lerp(x, F.avg_pool2d(x, 3, 1, 1, count_include_pad=False), share)
    return (x * (0.8 + 0.4 * gain) + 0.2 * (shift - 0.5) + 0.02 * torch.randn(x.shape, generator=rng)).clamp(
        0, 1
    ), points


def train(work: Path, minutes: float) -> None:
    """Train for so long, on from the written weights where there are some, and write them."""
    torch.manual_seed(0)
    rng = torch.Generator().manual_seed(int(time.time()))
    parts, points, visible = training_parts(work)
    net = landmark_net().train() if WEIGHTS.exists() else LandmarkNet()
    optimizer = torch.optim.AdamW(net.parameters(), lr=RATE, weight_decay=0.01)
    begun, seen, smooth = time.monotonic(), 0, 0.0
    while (done := (time.monotonic() - begun) / (60 * minutes)) < 1.0:
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(1.0, 20 * done + 0.05) * (1.0 - done)
        picks = torch.randint(len(parts), (BATCH,), generator=rng)
        x, wanted = augmented(parts[picks], points[picks], rng)
        heat, mask = net.heat_of(x), visible[picks]
        away = F.smooth_l1_loss(mean_place(heat), wanted, reduction="none").sum(dim=2)
        loss = ((away + off_place(heat, wanted)) * mask).sum() / mask.sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        seen, smooth = seen + BATCH, 0.98 * smooth + 0.02 * float(loss.detach())
        if seen % (BATCH * 50) == 0:
            print(f"{seen} pictures: loss {smooth:.3f}", flush=True)
    save_file({name: t.half() for name, t in net.state_dict().items()}, WEIGHTS, {"format": FORMAT})


def judge() -> str:
    """The error on held-out drawings of each technique, the network's and that of the mean face, in Markdown."""
    mean = torch.from_numpy(np.mean([face_of(seed).points for seed in range(500)], axis=0)).float()
    lines, errors, blind = ["| technique | error, pixels of 256 | the mean face |", "| --- | ---: | ---: |"], [], []
    for number, name in enumerate(NAMES):
        seeds = range(JUDGED_SEED + number * JUDGED, JUDGED_SEED + (number + 1) * JUDGED)
        faces = [face_of(seed) for seed in seeds]
        drawn = torch.from_numpy(np.stack([drawing(seed, name).image for seed in seeds])).permute(0, 3, 1, 2)
        errors.append(float(landmark_error(find_landmarks(drawn.float() / 255), faces).mean()))
        blind.append(float(landmark_error(mean.expand(len(faces), -1, -1), faces).mean()))
        lines.append(f"| {name} | {errors[-1]:.2f} | {blind[-1]:.2f} |")
    total = f"| **all** | {sum(errors) / len(errors):.2f} | {sum(blind) / len(blind):.2f} |"
    return "\n".join([*lines, total]) + "\n"


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, help="folder with the drawings; without it the written weights are judged")
    parser.add_argument("--minutes", type=float, default=5.0, help="of training (default: %(default)s)")
    given = parser.parse_args()
    if given.work:
        train(given.work, given.minutes)
        landmark_net.cache_clear()
    print(judge())


if __name__ == "__main__":
    main()

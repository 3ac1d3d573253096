"""Rows through the model for each picture of a whole block of 16 x 50, counted by the program itself.

The network is one attention layer on a few tokens, so that the whole run takes seconds; everything around it is real.
"""

import re

import pytest
import torch
import torch.nn.functional as F
from einops import rearrange
from magicstyle.attention_patches.architectures.base import Architecture, LayerFacts, Parametrization
from magicstyle.attention_patches.call import Call, Handlers, RowPlan, TokenLayout
from magicstyle.core.features import AttentionFeatures
from magicstyle.core.grid import Grid
from magicstyle.core.layers import LayerId
from magicstyle.core.schedule import noise_levels, timesteps
from magicstyle.headless import cli
from magicstyle.headless.engine.attention import torch_kernel
from PIL import Image

LAYER = LayerId("output", 6, 0)
N, CONTENTS, STYLES = 50, 16, 50


class OneLayer(Architecture):
    """A network of one self-attention layer on the latent's own tokens."""

    parametrization = Parametrization.DIFFUSION
    layers = {LAYER: LayerFacts(4, 1)}
    fits = read = write = None

    def grids(self, size):
        return {LAYER: Grid(size)}


OneLayer.__abstractmethods__ = frozenset()


class OneLayerModel:
    """What the headless runs need of a model."""

    device = torch.device("cpu")
    scale_factor = 0.5
    prompt = torch.zeros(1, 2, 4)

    def __init__(self):
        self.rows, self.architecture, self.hooks = 0, OneLayer("BaseModel", None), self
        self.handlers = None

    @property
    def id(self):
        return self.architecture.id

    def answered_by(self, handlers):
        return Answering(self, handlers)

    def encode(self, pictures):
        grey = F.avg_pool2d(pictures, 16)
        return torch.cat([grey, grey.mean(1, keepdim=True)], 1)

    def decode(self, latents):
        return F.interpolate(latents[:, :3].clamp(-1, 1), scale_factor=16)

    def timesteps(self, sigma):
        return timesteps(sigma, noise_levels())

    def denoised(self, x, sigma):
        self.rows += x.shape[0]
        q = rearrange(x / (1 + sigma.view(-1, 1, 1, 1)), "b c h w -> b (h w) c")
        call = Call(
            LAYER,
            TokenLayout(Grid(x.shape[2:])),
            RowPlan(latent=Grid(x.shape[2:])),
            AttentionFeatures(q, q, q),
            torch_kernel(1, q),
        )
        answer = None if self.handlers is None else self.handlers.attention(call)
        return rearrange(call.plain() if answer is None else answer, "b (h w) c -> b c h w", h=x.shape[2])


class Answering:
    """Handlers in place for a while."""

    def __init__(self, model, handlers):
        self.model, self.handlers = model, handlers or Handlers(Call.plain)

    def __enter__(self):
        self.before, self.model.handlers = self.model.handlers, self.handlers

    def __exit__(self, *error):
        self.model.handlers = self.before


@pytest.mark.parametrize("every, most", [(1, 1.15), (5, 1.05)])
def test_a_picture_of_a_block_takes_hardly_more_than_its_own_rows(tmp_path, monkeypatch, loads, capsys, every, most):
    monkeypatch.chdir(tmp_path)
    for folder, count in (("photos", CONTENTS), ("styles", STYLES)):
        (tmp_path / folder).mkdir()
        for number in range(count):
            Image.effect_noise((64, 64), 20 + number).save(tmp_path / folder / f"{number}.png")
    loads.model = OneLayerModel()
    common = ["--library", "lib", "--size", "64", "--steps", str(N), "--level-stride", str(every)]
    assert cli.main(["invert-styles", "styles", *common]) == cli.OK
    assert cli.main(["stylize", "photos", *common]) == cli.OK
    told = capsys.readouterr().err
    rows = float(re.findall(r"800 of 800 pictures made, ([0-9.]+) rows through the model for each", told)[-1])
    replays = N // every * (1 / STYLES + 1 / CONTENTS)
    assert rows == pytest.approx(N + (N + 1) / STYLES + replays, abs=0.051) and rows <= most * N

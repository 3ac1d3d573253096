"""`styleid-repo` is StyleID's loop: here written once more, in the script's own terms, on the bare network."""

import numpy as np
import pytest
import torch
from magicstyle.attention_patches.call import Handlers
from magicstyle.banks.bank import FeatureBank, StyleEntry
from magicstyle.benchmarks.published import walks
from magicstyle.core.errors import MagicStyleError
from magicstyle.core.fusion import FusionSettings
from magicstyle.core.layers import select_layers
from magicstyle.headless.engine.recipe import Recipe
from magicstyle.headless.engine.stylize import fused
from magicstyle.headless.pictures.reading import read_picture, to_tensor
from magicstyle.model_files.demo import DEMO_CONTENT, DEMO_STYLE
from magicstyle.tests.core.oracle import dense_attention

SETTINGS = FusionSettings("styleid", query_preservation=0.75, temperature=1.5)
LAYERS = "output.6-11"
SIZE = (48, 32)


@pytest.fixture(scope="module")
def loaded():
    return walks.load_with_posterior(None, "cpu")


@pytest.fixture(scope="module")
def latents(loaded):
    pictures = [to_tensor(read_picture(path, SIZE)) for path in (DEMO_CONTENT, DEMO_STYLE)]
    with torch.inference_mode():
        return [loaded.model.encode(picture) for picture in pictures]


class Loop:
    """The script in variance-preserving terms: alpha-bar tables, a dictionary of features by timestep."""

    def __init__(self, model, steps):
        betas = np.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=np.float64) ** 2
        self.alphas = torch.tensor(np.cumprod(1 - betas), dtype=torch.float32)
        self.model, self.stride = model, 1000 // steps
        self.layers = set(select_layers(LAYERS, model.layers))
        self.calls = []

    def eps(self, y, t):
        self.calls.append(t)
        self.model.hooks.latent_grid = tuple(y.shape[2:])
        return self.model.unet(y, torch.tensor([t]), self.model._prompt, return_dict=False)[0]

    def step(self, y, e, t, t_next):
        a, a_next = self.alphas[t], self.alphas[t_next]
        clean = (y - (1 - a).sqrt() * e) / a.sqrt()
        return a_next.sqrt() * clean + (1 - a_next).sqrt() * e

    def encode(self, y):
        features = {}
        stops = list(range(1, 1000 + self.stride, self.stride))
        stops[-1] = 999
        for i, t in enumerate(range(1, 1000, self.stride)):

            def keep(call, t=t):
                features[t, call.layer] = tuple(call.live)
                return dense_attention(*call.live, call.kernel.heads)

            with self.model.hooks.answered_by(Handlers(keep)):
                e = self.eps(y, t)
            y = self.step(y, e, t, stops[i + 1])
        return y, features

    def sample(self, y, content, style, gamma=0.75, tau=1.5):
        timesteps = np.arange(0, 1000, self.stride) + 1
        before = [0, *timesteps[:-1]]
        for index in reversed(range(len(timesteps))):
            if index >= len(timesteps) - 1:  # start_step
                continue
            t = int(timesteps[index])

            def inject(call, t=t):
                q, k, v = call.live
                if call.layer not in self.layers:
                    return dense_attention(q, k, v, call.kernel.heads)
                mixed = gamma * content[t, call.layer][0] + (1 - gamma) * q
                return dense_attention(mixed, *style[t, call.layer][1:], call.kernel.heads, tau=tau)

            with self.model.hooks.answered_by(Handlers(inject)):
                e = self.eps(y, t)
            y = self.step(y, e, t, int(before[index]))
        return y


def adain(content, style):
    content, style = content[0].flatten(1).numpy(), style[0].flatten(1).numpy()
    normal = (content - content.mean(1, keepdims=True)) / content.std(1, ddof=1, keepdims=True)
    return torch.from_numpy(normal * style.std(1, ddof=1, keepdims=True) + style.mean(1, keepdims=True))


def difference(a, b):
    return float((a - b).norm() / b.norm())


@pytest.mark.parametrize("steps", [5, 50])
def test_the_walk_is_styleids_loop(loaded, latents, steps):
    model, timesteps = loaded.model, walks.times(steps)
    with torch.inference_mode():
        ours = [walks.walk_up(model, latent, timesteps) for latent in latents]
        loop = Loop(model, steps)
        theirs = [loop.encode(latent) for latent in latents]
        inverted = [difference(a.noise, b[0]) for a, b in zip(ours, theirs, strict=True)]
        start = walks.unbiased_adain(ours[0].noise, ours[1].noise)
        expected = adain(theirs[0][0], theirs[1][0]).view_as(start)
        bank = FeatureBank(ours[0].features, (StyleEntry(ours[1].features),))
        result = walks.walk_down(fused(model, bank, Recipe(SETTINGS)), start, timesteps)
        reference = loop.sample(expected, theirs[0][1], theirs[1][1])
    print(f"{steps} steps: inversions {inverted}, start {difference(start, expected):.1e}, result", end=" ")
    print(f"{difference(result, reference):.1e}")
    assert max(inverted) < 1e-5 and difference(start, expected) < 1e-5
    assert difference(result, reference) < 1e-5
    assert loop.calls[:steps] == list(timesteps) and loop.calls[2 * steps :] == timesteps[-2::-1]


def test_the_walk_of_fifty_steps_calls_at_the_levels_of_the_script():
    timesteps = walks.times(50)
    assert (timesteps[0], timesteps[1], timesteps[-2], timesteps[-1], len(timesteps)) == (1, 21, 961, 981, 50)


def test_steps_that_do_not_divide_are_refused():
    with pytest.raises(MagicStyleError, match="--steps 48 does not divide 1000: .* such as 50"):
        walks.times(48)


def test_the_two_protocols_are_not_the_same(loaded, latents):
    """A different start, a different walk: what the calibration row is for."""
    walk = walks.StyleIdWalk(loaded, 10)
    own = walks.MagicStyleWalk(loaded.model, 10)
    pictures = [to_tensor(read_picture(path, SIZE)) for path in (DEMO_CONTENT, DEMO_STYLE)]
    results = [
        np.asarray(each.paint(*(each.invert(picture, "qkv") for picture in pictures), SETTINGS), dtype=float)
        for each in (walk, own)
    ]
    assert 2.0 < np.abs(results[0] - results[1]).mean() < 60.0


def test_the_posterior_is_drawn_around_its_mean_and_the_same_each_time(loaded, latents):
    picture = to_tensor(read_picture(DEMO_CONTENT, SIZE))
    with torch.inference_mode():
        drawn = [loaded.posterior(picture, torch.Generator().manual_seed(22)) for _ in range(2)]
    assert torch.equal(*drawn)
    assert 0 < difference(drawn[0], latents[0]) < 0.5


def test_pixels_are_truncated():
    picture = torch.tensor([-1.0, -1 + 1.99 / 127.5, 0.0, 1.0]).view(1, 1, 2, 2).expand(1, 3, 2, 2)
    assert np.asarray(walks.truncated(picture))[..., 0].tolist() == [[0, 1], [127, 255]]

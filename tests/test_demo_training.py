"""How the demo models are trained: what a step sees, what it minimises, and that a stopped stage goes on."""

import signal

import numpy as np
import pytest
import torch
from magicstyle.core.inversion import sample_ddim
from magicstyle.tools.demo_model import dataset, train
from magicstyle.tools.demo_model.gaussian import Gaussian
from magicstyle.tools.demo_model.model_file import FlowModel, SupervisedFlow
from magicstyle.tools.demo_model.schedule import TRAINING_STEPS, alphas_cumprod
from magicstyle.tools.demo_model.techniques import drawing
from magicstyle.tools.demo_model.trainer import Trainer, TrainingSettings, load_average
from magicstyle.tools.demo_model.transformer import TransformerConfig, flow_times
from safetensors import safe_open
from safetensors.torch import load_file

LATENTS = torch.randn(10, 4, 32, 32, generator=torch.Generator().manual_seed(0)).half()


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_crops_come_first_and_a_quarter_as_many_whole_pictures_last():
    settings = TrainingSettings(steps=100, batch=16, learning_rate=1.0)
    assert [train.is_whole(step, settings) for step in (0, 41, 42, 99)] == [False, False, True, True]
    drawn = (train.step_places(len(LATENTS), whole=w, batch=16, generator=seeded()) for w in (False, True))
    crops, whole = (train.cut(LATENTS, *places) for places in drawn)
    assert crops.shape == (16, 4, 16, 16) and whole.shape == (4, 4, 32, 32)
    assert all(any(torch.equal(picture, known.float()) for known in LATENTS) for picture in whole)


@pytest.mark.parametrize("times", [train.even_times, flow_times])
@pytest.mark.parametrize("count", [4, 5])
def test_half_of_the_whole_pictures_are_at_high_noise(times, count):
    found = train.half_high(times, count, seeded())
    assert found.shape == (count,) and ((found >= 0) & (found <= 1)).all()
    assert torch.equal(found[: count // 2], times(count // 2, seeded()))
    high = found[count // 2 :]
    assert (high >= 0.5).all() and torch.allclose(high.diff(), torch.full((len(high) - 1,), 0.5 / len(high)))


class Shown:
    """Predicts nothing, and remembers what it was shown."""

    def __call__(self, noisy, t):
        self.noisy, self.t = noisy, t
        return torch.zeros_like(noisy)


def test_whole_pictures_are_judged_by_velocity_and_crops_by_noise():
    latents, model = LATENTS[:4].float(), Shown()
    for whole in (False, True):
        loss = train.denoising_loss(model, latents, seeded(), whole=whole)
        assert model.t.min() >= 0 and model.t.max() < TRAINING_STEPS
        alpha = alphas_cumprod()[model.t][:, None, None, None]
        noise = (model.noisy - alpha.sqrt() * latents) / (1 - alpha).sqrt()
        velocity = alpha.sqrt() * noise - (1 - alpha).sqrt() * latents
        # no noise predicted: all of the input is signal
        predicted = -(1 - alpha).sqrt() * model.noisy / alpha.sqrt()
        expected = (predicted - velocity).square().mean() if whole else noise.square().mean()
        assert torch.allclose(loss, expected, rtol=1e-4)


def test_a_middle_blocks_tokens_are_held_to_the_portrait_beneath_them():
    """Where the map reads a token's first channels, they come out as the pixels of that token's place."""
    config = TransformerConfig(in_channels=4, dim=48, n_layers=2, n_heads=1, axes_dims=(16, 16, 16))
    model = SupervisedFlow(config, 64)
    model(LATENTS[:2].float(), torch.tensor([0.3, 0.8]))
    with torch.no_grad():
        model.composition.weight.copy_(torch.eye(48))
        model.composition.bias.zero_()
    found = model.composed()
    assert found.shape == (2, 3, 64, 64)
    row, column = 5, 9
    token = torch.nn.functional.layer_norm(model.tokens[1, 16 * row + column], (48,))
    place = found[1, :, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4]
    assert torch.allclose(place.permute(1, 2, 0).flatten(), token, atol=1e-5)
    found.square().mean().backward()
    assert model.transformer.layers[0].attention.qkv.weight.grad.abs().sum() > 0
    assert model.transformer.layers[1].attention.qkv.weight.grad is None, "blocks above the middle are not concerned"


@pytest.mark.parametrize("whole", [False, True])
def test_every_weight_learns_from_the_first_step_on(whole):
    """Also while crops are shown: processes that train together share the gradient of every weight."""
    config = TransformerConfig(in_channels=4, dim=48, n_layers=2, n_heads=1, axes_dims=(16, 16, 16))
    model = SupervisedFlow(config, dataset.COMPOSITION_SIZE)
    places, crop = train.step_places(len(LATENTS), whole=whole, batch=8, generator=seeded())
    loss = train.flow_loss(model, train.cut(LATENTS, places, crop), seeded(), whole=whole)
    plain = train.beneath(np.zeros((len(LATENTS), 64, 64, 3), np.uint8), places, crop)
    (loss + train.composition_loss(model, plain)).backward()
    assert [name for name, weight in model.named_parameters() if weight.grad is None] == []


def test_what_lies_beneath_a_crop_is_of_the_same_place():
    compositions = np.zeros((3, 64, 64, 3), np.uint8)
    compositions[2, 22:24, 10:12] = 255  # beneath row 11 and column 5 of the latents
    latents = torch.zeros(3, 4, 32, 32).half()
    latents[2, :, 11, 5] = 1
    places = [(2, 8, 3), (0, 8, 3)]
    found, marked = train.beneath(compositions, places, 16), train.cut(latents, places, 16)
    assert found.shape == (2, 3, 32, 32) and marked.shape == (2, 4, 16, 16)
    shrunk = torch.nn.functional.avg_pool2d(found, 2)[:, 0]
    assert torch.equal(shrunk > 0, marked[:, 0] > 0) and (shrunk > 0).sum() == 1


def test_a_flow_answers_without_some_of_its_blocks():
    config = TransformerConfig(in_channels=4, dim=48, n_layers=2, n_heads=1, axes_dims=(16, 16, 16))
    model, x = FlowModel(config), LATENTS[:2].float()
    torch.nn.init.normal_(model.transformer.final_layer.linear.weight)
    whole, weaker = model.velocity(x, 0.5), model.velocity(x, 0.5, without=(1,))
    assert not torch.allclose(whole, weaker)
    del model.transformer.layers[1]
    assert torch.equal(model.velocity(x, 0.5), weaker)


def test_compositions_show_the_portraits_of_the_drawings_in_one_palette():
    shown = np.stack([dataset.composition(seed) for seed in range(3)])
    assert shown.shape == (3, 64, 64, 3) and shown.dtype == np.uint8
    assert np.ptp(shown[:, 0, 0].astype(int), axis=0).max() < 40, "one background"
    for seed, picture in enumerate(shown):
        hair, face = (drawing(seed).masks[name][2::4, 2::4] for name in ("hair", "face"))
        light = picture.mean(axis=-1)
        assert light[face].mean() > light[hair].mean() + 30


@pytest.fixture
def own_signals():
    """Training takes a termination signal for itself; later tests get it back."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def fitted(path, stop_at):
    """A line fitted to noise for up to `stop_at` steps of 6 -> its trainer, saved."""
    torch.manual_seed(0)
    trainer = Trainer(torch.nn.Linear(3, 1), TrainingSettings(6, 1, 0.1, warmup=2, log_every=1), path)

    def loss_of_step(step):
        return trainer.model(torch.randn(5, 3, generator=seeded(step))).square().mean()

    for step, loss in trainer.run(loss_of_step):
        assert loss >= 0
        if step == stop_at:
            trainer.save()
            break
    return trainer


def test_a_stopped_stage_goes_on_to_the_same_weights(tmp_path, own_signals):
    straight = fitted(tmp_path / "straight.safetensors", 6)
    fitted(tmp_path / "stopped.safetensors", 3)
    resumed = fitted(tmp_path / "stopped.safetensors", 6)
    assert resumed.step == straight.step == 6
    for known, found in zip(straight.model.parameters(), resumed.model.parameters(), strict=True):
        assert torch.equal(known, found)
    models = [torch.nn.Linear(3, 1) for _ in range(2)]
    for model, name in zip(models, ("straight", "stopped"), strict=True):
        assert load_average(model, tmp_path / f"{name}.safetensors")["step"] == "6"
    assert torch.equal(models[0].weight, models[1].weight)
    assert not torch.equal(models[0].weight, straight.model.weight)


def correlated_latents(count):
    """Latents n 2 3 3 with a mean of 2 and a strong component that all share."""
    own = torch.randn(count, 2, 3, 3, generator=seeded(1))
    shared = torch.randn(count, 1, 1, 1, generator=seeded(2)) * torch.linspace(-1, 1, 18).view(2, 3, 3)
    return 2 + 0.3 * own + 5 * shared


def test_carried_down_noise_has_the_mean_and_covariance_of_noisy_latents():
    latents, level = correlated_latents(2000), 3.0
    gaussian = Gaussian.of(latents)
    found = gaussian.carried_down(torch.randn(200_000, 2, 3, 3, generator=seeded(3)), level).flatten(1)
    assert torch.allclose(found.mean(dim=0), latents.flatten(1).mean(dim=0), atol=0.1)
    expected = latents.flatten(1).T.cov() + level**2 * torch.eye(18)
    assert torch.allclose(found.T.cov(), expected, atol=0.02 * float(expected.max()))


def test_noise_is_carried_down_as_small_steps_of_the_gaussians_denoiser_carry_it():
    gaussian = Gaussian.of(correlated_latents(2000).double())

    def denoised(x, sigma):
        s = float(sigma[0])
        along = ((x - gaussian.mean).flatten(1) @ gaussian.components.flatten(1).T) * (
            gaussian.variances / (gaussian.variances + s**2)
        )
        return gaussian.mean + (along @ gaussian.components.flatten(1)).view_as(x)

    noise = torch.randn(3, 2, 3, 3, generator=seeded(3), dtype=torch.float64)
    levels = torch.logspace(5, 0, 4000, dtype=torch.float64)
    steps = sample_ddim(denoised, noise * levels[0], levels)
    assert torch.allclose(steps, gaussian.carried_down(noise, float(levels[-1])), atol=0.02)


def test_fewer_latents_than_numbers_leave_the_rest_of_the_noise_alone():
    gaussian = Gaussian.of(correlated_latents(4))
    noise = torch.randn(3, 2, 3, 3, generator=seeded(3))
    moved = (gaussian.carried_down(noise, 2.0) - gaussian.mean - 2 * noise).flatten(1)
    components = gaussian.components.flatten(1)
    assert torch.allclose(moved, moved @ components.T @ components, atol=1e-4)


@pytest.mark.parametrize("stage", ["unet", "transformer"])
def test_a_stage_trains_from_nothing_on_crops_and_whole_pictures(stage, tmp_path, own_signals):
    np.save(tmp_path / "latents.npy", torch.randn(4, 32, 32, 32, generator=seeded()).half().numpy())
    np.save(tmp_path / f"compositions_{train.PICTURES}.npy", np.zeros((4, 64, 64, 3), np.uint8))
    settings = TrainingSettings(steps=3, batch=4, learning_rate=1e-3)
    assert [train.is_whole(step, settings) for step in range(3)] == [False, False, True]
    train.TRAINING[stage](tmp_path, settings)
    state = load_file(tmp_path / f"{stage}.safetensors")
    weights = [name for name in state if name.startswith("model.")]
    assert weights and all(state[name].isfinite().all() for name in weights)
    with safe_open(tmp_path / f"{stage}.safetensors", "pt") as file:
        assert file.metadata()["step"] == "3"

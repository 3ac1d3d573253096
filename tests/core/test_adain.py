import pytest
import torch
from magicstyle.core.adain import ChannelStatistics, adain_map
from magicstyle.core.errors import MagicStyleError


def latent(seed, *shape, scale=1.0, shift=0.0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * scale + shift


def adain_latents(content, style, *strength, **masks):
    """The content itself through its map."""
    return adain_map(content, style, *strength, **masks)(content)


def test_the_result_has_the_style_statistics_and_the_content_pattern():
    content, style = latent(0, 2, 4, 7, 5), latent(1, 1, 4, 9, 6, scale=3.0, shift=-2.0)
    result = adain_latents(content, style)
    torch.testing.assert_close(result.mean((2, 3)), style.mean((2, 3)).expand(2, -1), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(
        result.var((2, 3), correction=0), style.var((2, 3), correction=0).expand(2, -1), atol=1e-4, rtol=1e-4
    )
    flat = torch.stack([result[1, 2].flatten(), content[1, 2].flatten()])
    assert torch.corrcoef(flat)[0, 1] > 0.9999


@pytest.mark.parametrize("strength", [0.0, 0.3, 1.0])
def test_strength_blends_linearly(strength):
    content, style = latent(0, 1, 4, 6, 10), latent(1, 1, 4, 6, 10, scale=2.0)
    full = adain_latents(content, style)
    torch.testing.assert_close(adain_latents(content, style, strength), content + strength * (full - content))


def test_own_statistics_change_nothing():
    content = latent(0, 3, 4, 6, 10)
    torch.testing.assert_close(adain_latents(content, content), content)


def test_flat_channels_stay_finite_in_half_precision():
    flat = torch.full((1, 4, 8, 8), 0.5, dtype=torch.float16)
    assert torch.isfinite(adain_latents(flat, flat)).all()


def spread_of(samples):
    return samples.double().std((2, 3), correction=0)


# SD1.5's white noise as the host hands it on (13.1 / 0.18215), and a level at which squares overflow by far
@pytest.mark.parametrize("spread", [13.1 / 0.18215, 400.0])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_noise_in_half_precision_gets_the_style_statistics_as_in_single(dtype, spread):
    content, style = latent(0, 1, 4, 64, 64, scale=spread), latent(1, 1, 4, 64, 64, scale=spread, shift=9.0)
    single, half = adain_latents(content, style), adain_latents(content.to(dtype), style.to(dtype))
    assert half.dtype == dtype
    assert (half.float() - single).norm() / single.norm() < torch.finfo(dtype).eps
    torch.testing.assert_close(spread_of(half), spread_of(single), atol=0.0, rtol=1e-3)


def test_a_mask_weighs_in_single_precision_whatever_the_latent():
    content, style = latent(0, 1, 4, 64, 64, scale=400.0), latent(1, 1, 4, 64, 64, scale=350.0)
    region = torch.linspace(0.0, 1.0, 64).expand(1, 64, 64)
    single = adain_latents(content, style, region=region, style_mask=region)
    half = adain_latents(content.half(), style.half(), region=region, style_mask=region)
    assert (half.float() - single).norm() / single.norm() < 1e-3


def test_a_result_that_half_precision_cannot_hold_stays_in_single():
    content, style = latent(0, 1, 4, 16, 16), latent(1, 1, 4, 16, 16, scale=24800.0)  # no picture: ends of zero SNR
    result = adain_latents(content.half(), style)
    assert result.dtype == torch.float32 and torch.isfinite(result).all() and result.abs().max() > 65504


def test_statistics_of_tokens_are_in_single_precision_at_least():
    tokens = latent(2, 1, 40, 6, scale=300.0)
    for weights in (None, torch.ones(1, 40).half()):
        found = ChannelStatistics.of_tokens(tokens.half(), weights)
        assert found.std.dtype == torch.float32
        torch.testing.assert_close(found.std, tokens.std(1, correction=0, keepdim=True), atol=0.0, rtol=1e-3)
        assert ChannelStatistics.of_tokens(tokens.double(), weights).std.dtype == torch.float64


def test_moments_are_over_tokens_and_weights_leave_tokens_out():
    x = latent(1, 2, 40, 6, scale=2.0, shift=1.0)
    shown = torch.zeros(1, 40)
    shown[:, 5:25] = 0.5
    weighted, part = ChannelStatistics.of_tokens(x, shown), ChannelStatistics.of_tokens(x[:, 5:25])
    torch.testing.assert_close(part.mean[:, 0], x[:, 5:25].mean(1))
    torch.testing.assert_close(part.std[:, 0], x[:, 5:25].std(1, correction=0))
    torch.testing.assert_close(weighted, part)


@pytest.mark.parametrize(
    "style, message",
    [(latent(1, 1, 16, 6, 6), "16"), (latent(1, 2, 4, 6, 6), "holds 2 pictures and the content latent 3")],
)
def test_latents_that_do_not_fit_are_refused(style, message):
    with pytest.raises(MagicStyleError, match=message):
        adain_latents(latent(0, 3, 4, 6, 6), style)


def test_a_region_moves_its_own_statistics_to_those_of_the_style_mask_and_leaves_the_rest():
    content, style = latent(0, 2, 4, 8, 6, shift=1.0), latent(1, 1, 4, 10, 10, scale=3.0, shift=-2.0)
    region, shown = torch.zeros(1, 16, 12), torch.zeros(1, 10, 10)
    region[:, :8], shown[:, :, 3:] = 1.0, 1.0
    result = adain_latents(content, style, region=region, style_mask=shown)
    torch.testing.assert_close(result[:, :, 4:], content[:, :, 4:])
    torch.testing.assert_close(result[:, :, :4], adain_latents(content[:, :, :4], style[..., 3:]), atol=1e-4, rtol=1e-4)


def test_an_all_white_region_is_none_and_an_all_black_one_changes_nothing():
    content, style = latent(0, 1, 4, 6, 10), latent(1, 1, 4, 6, 10, scale=2.0)
    white, black = torch.ones(1, 6, 10), torch.zeros(1, 6, 10)
    masked = adain_latents(content, style, region=white, style_mask=white)
    torch.testing.assert_close(masked, adain_latents(content, style))
    torch.testing.assert_close(adain_latents(content, style, region=black), content)


def test_a_soft_region_blends():
    content, style = latent(0, 1, 4, 6, 10), latent(1, 1, 4, 6, 10, scale=2.0)
    half = adain_latents(content, style, region=torch.full((1, 6, 10), 0.5))
    torch.testing.assert_close(half, (content + adain_latents(content, style)) / 2)


@pytest.mark.parametrize("strength", [-0.01, 1.01, float("nan"), float("inf")])
def test_a_strength_that_is_no_share_is_refused(strength):
    latent = torch.zeros(1, 4, 3, 5)
    with pytest.raises(MagicStyleError, match=f"strength is {strength}: choose a value from 0 to 1"):
        adain_latents(latent, latent, strength)


def test_together_the_pictures_of_a_batch_keep_what_tells_them_apart():
    """One affine map for all: a fade over the batch stays a fade, where each picture by itself would lose it."""
    frames = latent(1, 4, 3, 5, 6) + torch.arange(4.0).view(4, 1, 1, 1)
    style = 2.0 * latent(2, 1, 3, 7, 4) + 5.0
    alone, together = (adain_map(frames, style, together=shared)(frames) for shared in (False, True))
    torch.testing.assert_close(alone.mean((2, 3)), style.mean((2, 3)).expand(4, -1), atol=1e-4, rtol=1e-4)
    own, theirs = frames.transpose(0, 1).flatten(1), style.transpose(0, 1).flatten(1)
    scale = (theirs.std(1, correction=0) / own.std(1, correction=0)).view(1, 3, 1, 1)
    expected = (frames - own.mean(1).view(1, 3, 1, 1)) * scale + theirs.mean(1).view(1, 3, 1, 1)
    torch.testing.assert_close(together, expected, atol=1e-4, rtol=1e-4)


def test_together_a_region_counts_in_every_picture():
    frames, style, region = latent(1, 2, 3, 4, 4), latent(2, 1, 3, 4, 4), torch.ones(1, 4, 4)
    torch.testing.assert_close(
        adain_map(frames, style, region=region, together=True)(frames),
        adain_map(frames, style, together=True)(frames),
        atol=1e-4,
        rtol=1e-4,
    )

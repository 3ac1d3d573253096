import pytest
import torch
from magicstyle.banks.bank import FeatureBank
from magicstyle.banks.bank_file import load_bank, save_bank
from magicstyle.core.controls import StyleControls
from magicstyle.core.errors import MagicStyleError
from magicstyle.core.fusion import FUSIONS
from magicstyle.core.grid import Grid
from magicstyle.core.preview import GAP, enlarged, pca_colours
from magicstyle.nodes.bank import with_style
from magicstyle.nodes.initial_latent import InitialLatent
from magicstyle.nodes.preview import preview
from magicstyle.tests.host.families import NEW_HOST, family_latent, family_model, family_prompt
from magicstyle.tests.host.family_scene import SMALL, difference, inverted, patched, sample, starting
from magicstyle.tests.host.film_oracle import FilmOracle, by_frame
from magicstyle.tests.host.film_scene import DESCENT, FRAMES, WAN, bank, film, inversion, style, windowed
from magicstyle.tests.host.flow_oracle import FlowOracle, Patcher
from magicstyle.tests.host.flow_rules import KNOBS, METHODS, Style
from magicstyle.tests.host.tiny import run_sampler

EMPTY = family_prompt(WAN)
WORDS = family_prompt(WAN, seed=6), family_prompt(WAN, seed=8)
CLOSE = 1e-4
METHOD_KNOBS = {name: KNOBS.get(name, {"method": name, "query_preservation": 0.0}) for name in FUSIONS}
STYLED = [name for name in FUSIONS if FUSIONS[name].style]
OF_FILMS = [name for name in FUSIONS if not FUSIONS[name].matches]
# the content's own keys and values, under its own queries, are the model's attention
OWN = [
    {"method": "masactrl"},
    {"style_weight": 0.0, "content_weight": 1.0, "query_preservation": 1.0, "temperature": 1.0},
]


@pytest.fixture(autouse=True)
def inference():
    with torch.inference_mode():
        yield


def one_step(model, content):
    """The model's answer at the first level, from the inverted noise."""
    sigmas = torch.tensor([content.sigmas[0], content.sigmas[0] / 2])
    return run_sampler(model, content.noise["samples"], sigmas, 1.0, EMPTY, EMPTY, "euler")


@pytest.mark.parametrize("storage", ["features", "latents"])
@pytest.mark.parametrize("knobs", OWN, ids=["masactrl", "ffa"])
def test_a_films_own_features_give_the_models_output(knobs, storage):
    content = inversion(film(), storage=storage)
    fused = one_step(patched(WAN, bank(content, style(), storage=storage), **knobs), content)
    assert difference(fused, one_step(starting(WAN), content)) <= 1e-5


@pytest.mark.parametrize("method", OF_FILMS)
def test_every_method_equals_its_formula(method):
    content = inversion(film())
    ours = sample(patched(WAN, bank(content, style()), **METHOD_KNOBS[method]), content, 3.0, *WORDS)
    oracle = FilmOracle(WAN)
    patcher = Patcher(by_frame(METHODS[method], oracle, FRAMES), (Style(style()),))
    assert difference(ours, oracle.stylize(film(), (patcher,), DESCENT, EMPTY, *WORDS, 3.0)) <= CLOSE
    if FUSIONS[method].style:
        unmoved = Patcher(METHODS[method], (Style(style()),))
        assert difference(ours, FilmOracle(WAN).stylize(film(), (unmoved,), DESCENT, EMPTY, *WORDS, 3.0)) > CLOSE


@pytest.mark.parametrize("method", OF_FILMS)
def test_latents_give_what_features_give(method):
    runs = []
    for storage in ("features", "latents"):
        content = inversion(film(), storage=storage)
        model = patched(WAN, bank(content, style(), storage=storage), **METHOD_KNOBS[method])
        runs.append(sample(model, content, 3.0, *WORDS))
    assert difference(*runs) <= CLOSE


def test_films_are_not_matched():
    content = inversion(film())
    with pytest.raises(
        MagicStyleError, match="cocodiff matches still pictures, and the content has 5 frames: set match_we"
    ):
        patched(WAN, bank(content, style()), **METHOD_KNOBS["cocodiff"])
    unmatched = {**METHOD_KNOBS["cocodiff"], "controls": StyleControls(match_weight=0.0)}
    styleid = {**METHOD_KNOBS["cocodiff"], "method": "styleid"}
    results = [one_step(patched(WAN, bank(content, style()), **knobs), content) for knobs in (unmatched, styleid)]
    assert torch.equal(*results)


@pytest.mark.parametrize("method", STYLED)
def test_a_film_of_one_frame_is_a_picture(method):
    """The oracle of pictures knows no frames."""
    content = inversion(film(1))
    assert content.features.header.size == SMALL
    ours = sample(patched(WAN, bank(content, style()), **METHOD_KNOBS[method]), content, 3.0, *WORDS)
    patcher = Patcher(METHODS[method], (Style(style()),))
    still = FlowOracle(WAN).stylize(film(1), (patcher,), DESCENT, EMPTY, *WORDS, 3.0)
    assert torch.equal(film(1), family_latent(WAN, SMALL)) and difference(ours, still) <= CLOSE


def halves(height, width, frames=1):
    """A mask that is white in one half: of each frame another, the left and the right by turns: t h w."""
    masks = torch.zeros(frames, height, width)
    for number, mask in enumerate(masks):
        mask[:, : width // 2] = 1.0 - number % 2
        mask[:, width // 2 :] = number % 2
    return masks


@pytest.mark.parametrize("frames", [1, FRAMES])
def test_a_region_is_one_for_all_frames_or_one_for_each(frames):
    (h, w), content = SMALL, inversion(film())
    region = halves(h, w, frames)
    features = inversion(style()).features
    made = with_style(FeatureBank(content.features, ()), features, 1.0, region)
    ours = sample(patched(WAN, made, **KNOBS["styleid"]), content, 1.0, *WORDS)
    oracle = FilmOracle(WAN)
    tall = region.expand(FRAMES, h, w).flatten(0, 1)
    patcher = Patcher(by_frame(METHODS["styleid"], oracle, FRAMES), (Style(style(), 1.0, tall),))
    assert difference(ours, oracle.stylize(film(), (patcher,), DESCENT, EMPTY, *WORDS)) <= CLOSE


def test_a_film_as_style_lends_each_frame_its_own():
    """Of equal frames it is the one picture at each time."""
    content = inversion(film())
    several = bank(content, style().expand(-1, -1, FRAMES, -1, -1).contiguous())
    assert several.styles[0].features.header.size.frames == FRAMES
    ours = sample(patched(WAN, several, **METHOD_KNOBS["zstar"]), content, 1.0, *WORDS)
    one = sample(patched(WAN, bank(content, style()), **METHOD_KNOBS["zstar"]), content, 1.0, *WORDS)
    assert 1e-6 < difference(ours, one) < 0.05  # alike to itself at other times
    with pytest.raises(MagicStyleError, match="Style 1 has 3 frames and the content 5"):
        bank(content, film(3))


# --- context windows -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("schedule", ["standard_static", "standard_uniform", "looped_uniform"])
def test_windows_show_a_features_own_frames(schedule):
    """What is fused does not come from a window: with and without windows a method of stored features is the same."""
    content = inversion(film(9))
    made = bank(content, style())
    model = patched(WAN, made, **METHOD_KNOBS["styleid"] | {"query_preservation": 1.0})
    whole = sample(model, content, 1.0, EMPTY)
    parts = sample(windowed(model, schedule=schedule), content, 1.0, EMPTY)
    plain = [sample(each, content, 1.0, EMPTY) for each in (starting(WAN), windowed(starting(WAN), schedule=schedule))]
    assert difference(parts, whole) < 5e-4 < difference(*plain)


@pytest.mark.parametrize("method", OF_FILMS)
def test_a_replay_in_windows_runs_the_frames_of_the_window(method):
    """Own features of a film that was inverted in windows are the windowed model's output."""
    content = inversion(film(9), model=windowed(), storage="latents")
    made = bank(content, style(), storage="latents")
    plain = one_step(windowed(starting(WAN)), content)
    own = one_step(windowed(patched(WAN, made, **OWN[0])), content)
    assert difference(own, plain) <= 1e-5
    acting = one_step(windowed(patched(WAN, made, **METHOD_KNOBS[method])), content)
    if FUSIONS[method].style:
        assert difference(acting, plain) > 1e-3


def test_a_windowed_inversion_leads_back(storage="latents"):
    many = torch.linspace(0.9, 0.0, 13)
    content = inversion(film(9), model=windowed(), storage=storage, sigmas=many)
    back = sample(windowed(starting(WAN)), content, 1.0, EMPTY)
    assert difference(back, film(9)) < 0.2


def test_features_of_a_windowed_inversion_are_refused():
    with pytest.raises(
        MagicStyleError,
        match="goes over the film in context windows, .*: set storage to latents",
    ):
        inversion(film(9), model=windowed(), storage="features")


def test_a_style_without_a_portrait_lies_in_each_frame_as_beside_one():
    """Z-STAR reads nothing of a content."""
    content = inversion(film())
    whole = bank(content, style())
    alone = FeatureBank(None, whole.styles)
    beside, blank = (
        sample(patched(WAN, each, **METHOD_KNOBS["zstar"]), content, 3.0, *WORDS) for each in (whole, alone)
    )
    assert torch.equal(blank, beside)
    windows = sample(windowed(patched(WAN, alone, **METHOD_KNOBS["zstar"])), content, 1.0, EMPTY)
    beside = sample(windowed(patched(WAN, whole, **METHOD_KNOBS["zstar"])), content, 1.0, EMPTY)
    assert torch.equal(windows, beside)


# --- what is kept ----------------------------------------------------------------------------------------------------


def test_what_a_film_takes_is_known_before_it_is_inverted():
    content = inversion(film(), layers="double.1-2", roles="queries")
    noise = content.features.noise_pair.noise
    kept = content.features.nbytes - noise.numel() * noise.element_size()
    tokens, width, levels = FRAMES * SMALL[0] * SMALL[1] // 4, 96, len(DESCENT) - 1
    assert kept == tokens * width * 2 * levels * 4
    assert "1 film of 5 frames, latent 12x8" in content.report


def test_a_bank_of_a_film_comes_back_from_its_file(tmp_path):
    content = inversion(film(), storage="latents")
    region = halves(*SMALL, FRAMES)
    made = with_style(FeatureBank(content.features, ()), inversion(style(), storage="latents").features, 1.0, region)
    save_bank(made, tmp_path / "film.safetensors")
    loaded = load_bank(tmp_path / "film.safetensors")
    assert loaded.content.header.grids == made.content.header.grids
    assert loaded.content.header.size == (FRAMES, *SMALL)
    assert torch.equal(loaded.styles[0].region, made.styles[0].region)
    runs = [sample(patched(WAN, each, **METHOD_KNOBS["ffa"]), content, 1.0, *WORDS) for each in (made, loaded)]
    assert torch.equal(*runs)


@pytest.mark.parametrize("method", ["noising", "midpoint", "fixed_point"])
def test_other_ways_to_the_noise_take_films(method):
    # windows of the older host know the levels of the schedule alone
    around = windowed if NEW_HOST or method != "midpoint" else lambda model: model
    content = inversion(film(9), model=around(family_model(WAN)), storage="latents", method=method)
    made = bank(content, style(), storage="latents")
    ours = sample(around(patched(WAN, made, **METHOD_KNOBS["zstar"])), content, 1.0, *WORDS)
    assert ours.shape == (1, 16, 9, *SMALL) and bool(torch.isfinite(ours).all())


@pytest.mark.parametrize("storage", ["features", "latents"])
def test_the_preview_shows_each_frame(storage):
    """A frame's colours are its own tokens', on the one basis of all."""
    content = inversion(film(), storage=storage)
    made = bank(content, style(), storage=storage)
    shown = preview(made, "double.2", 0.5)
    layer = made.layers[2]
    keys = [features.at(layer, 1).k[0] for features in made]
    grids = [Grid((FRAMES * SMALL[0] // 2, SMALL[1] // 2)), made.styles[0].features.header.grids[layer]]
    tall, still = pca_colours(keys, grids)
    assert shown.shape[0] == FRAMES
    frames = torch.stack([enlarged(part) for part in tall.chunk(FRAMES)])
    height, width = frames.shape[1:3]
    torch.testing.assert_close(shown[:, -height:, :width], frames)
    beside = enlarged(still)
    torch.testing.assert_close(shown[3, -height:, width + GAP :][:, : beside.shape[1]], beside)


# --- beside the fusion -----------------------------------------------------------------------------------------------


def test_the_initial_latent_has_one_mean_and_one_spread_for_all_frames():
    content, picture = (inversion(latent, storage="latents").noise for latent in (film(), style()))
    (found,) = InitialLatent.execute(content, picture, "adain", 1.0).args
    ours, theirs, own = found["samples"], picture["samples"], content["samples"]
    for moment in (torch.mean, torch.std):
        torch.testing.assert_close(moment(ours, (2, 3, 4)), moment(theirs, (2, 3, 4)), atol=1e-3, rtol=1e-2)
    frames = ours.mean((3, 4)) - ours.mean((2, 3, 4))[..., None]
    kept = own.mean((3, 4)) - own.mean((2, 3, 4))[..., None]
    scale = (theirs.std((2, 3, 4)) / own.std((2, 3, 4)))[..., None]
    torch.testing.assert_close(frames, kept * scale, atol=1e-3, rtol=1e-2)


def test_frames_of_a_batch_move_together_where_asked():
    """A fade stays a fade."""
    light = torch.tensor([1.0, 0.0, -1.0]).view(3, 1, 1, 1)
    frames = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1)) + light
    lent = torch.randn(1, 4, 6, 8, generator=torch.Generator().manual_seed(2)) * 2 + 3
    content, picture = {"samples": frames}, {"samples": lent}
    alone, together = (
        InitialLatent.execute(content, picture, "adain", 1.0, **more).args[0]["samples"]
        for more in ({}, {"frames_together": True})
    )
    torch.testing.assert_close(alone[0], alone[2], atol=1e-4, rtol=1e-4)
    spread = lent.std((2, 3), correction=0) / frames.std((0, 2, 3), correction=0)
    for number, level in ((0, 1.0), (1, 0.0), (2, -1.0)):
        torch.testing.assert_close((together[number] - together[1]).mean((1, 2)), level * spread[0], atol=1e-3, rtol=0)
    torch.testing.assert_close(together.mean((0, 2, 3)), lent.mean((0, 2, 3)), atol=1e-3, rtol=0)


@pytest.mark.parametrize("name", ["qwen", "cosmos"])
def test_a_film_is_refused_by_models_of_pictures(name):
    latent = family_latent(name, SMALL).expand(-1, -1, 3, -1, -1).contiguous()
    with pytest.raises(MagicStyleError, match="latent holds 3 frames, and films are inverted with Wan's text to video"):
        inverted(name, latent)


def test_a_film_is_refused_by_wan_that_takes_a_picture_besides():
    model = family_model(WAN)
    network = model.model.diffusion_model
    try:
        network.model_type = "i2v"
        with pytest.raises(MagicStyleError, match="latent holds 5 frames, and films are inverted with"):
            inversion(film(), model=model)
    finally:
        network.model_type = "t2v"


def test_a_run_of_another_length_is_refused():
    content = inversion(film())
    model = patched(WAN, bank(content, style()), **METHOD_KNOBS["zstar"])
    with pytest.raises(MagicStyleError, match="latent_image has 3 frames and the content was inverted with 5 frames"):
        run_sampler(model, film(3), DESCENT, 1.0, EMPTY, EMPTY, "euler")


def test_masks_of_a_film_are_one_or_one_for_each_frame():
    content = inversion(film())
    features = inversion(style()).features
    with pytest.raises(MagicStyleError, match="region holds 4 masks and the content 5 latent frames"):
        with_style(FeatureBank(content.features, ()), features, 1.0, torch.ones(4, 8, 8))
    video = torch.arange(17.0).div(16).reshape(17, 1, 1).expand(17, 8, 8)
    region = with_style(FeatureBank(content.features, ()), features, 1.0, video).styles[0].region
    expected = torch.tensor([0.0, 2.5, 6.5, 10.5, 14.5]) / 16
    torch.testing.assert_close(region[0, :, 0, 0], expected)

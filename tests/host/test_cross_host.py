"""The same file, pictures and knobs give the same latents in ComfyUI and headless; the loader gives stock objects."""

import comfy.samplers
import pytest
import torch
from comfy_extras.nodes_custom_sampler import SamplerCustom
from magicstyle.attention_patches.comfy import StyleGuider, install_fusion
from magicstyle.banks.bank import FeatureBank, StyleEntry
from magicstyle.core.controls import StyleControls
from magicstyle.core.errors import MagicStyleError
from magicstyle.core.fusion import FUSIONS, FusionSettings
from magicstyle.core.guidance import StyleGuidance
from magicstyle.headless.campaign.library import Library
from magicstyle.headless.campaign.names import StyleName
from magicstyle.headless.campaign.store import FolderStore
from magicstyle.headless.engine.model import load_demo_model
from magicstyle.headless.engine.stylize import Recipe, invert, paint, reconstruct, stylize
from magicstyle.nodes import demo_model as node_module
from magicstyle.nodes import files
from magicstyle.nodes.bank import FeatureBankNode
from magicstyle.nodes.demo_model import DemoModel
from magicstyle.nodes.initial_latent import InitialLatent
from magicstyle.nodes.inversion.nodes import InvertContent, InvertStyle
from magicstyle.nodes.patcher import PatchFFA

from nodes import VAEDecode, VAEEncode  # the host's

STEPS = 8
TOLERANCE = 1e-3


@pytest.fixture(autouse=True)
def inference():
    with torch.inference_mode():
        yield


@pytest.fixture(scope="module")
def demo():
    return DemoModel.execute().args


@pytest.fixture(scope="module")
def headless():
    return load_demo_model()


@pytest.fixture(scope="module", params=[(128, 128), (72, 104)], ids=str)
def pictures(request, demo):
    """Content and style as IMAGE, their middle cut to a size."""
    height, width = request.param
    return [image[:, 64:][:, :height, 64:][:, :, :width] for image in demo[3:5]]


@pytest.fixture(scope="module")
def in_comfyui(demo, pictures):
    """(content, style) outputs of the two inversion nodes."""
    model, vae, conditioning = demo[:3]
    inputs = {"steps": STEPS, "scheduler": "ddim_uniform", "layers": "output.6-11", "storage": "features"}
    with torch.inference_mode():
        latents = [VAEEncode().encode(vae, picture)[0] for picture in pictures]
        return [
            node.execute(model=model, latent=latent, conditioning=conditioning, **inputs).args
            for node, latent in zip((InvertContent, InvertStyle), latents, strict=True)
        ]


@pytest.fixture(scope="module")
def in_headless(headless, pictures):
    """(content, style) inversions."""
    tensors = [picture.movedim(-1, 1) * 2 - 1 for picture in pictures]
    return [invert(headless, headless.encode(tensor), Recipe(steps=STEPS)) for tensor in tensors]


def sampled(model, demo, latent, sigmas):
    """What SamplerCustom gives, in the model's scale."""
    sampler = comfy.samplers.sampler_object("ddim")
    conditioning = demo[2]
    run = getattr(SamplerCustom, "execute", None) or SamplerCustom().sample
    out = run(model, False, 0, 1.0, conditioning, conditioning, sampler, sigmas, latent)
    out = getattr(out, "args", out)[0]
    return out["samples"] * model.get_model_object("latent_format").scale_factor


def difference(a, b):
    return float((a - b).norm() / b.norm())


def test_both_invert_to_the_same_noise(demo, in_comfyui, in_headless):
    scale = demo[0].get_model_object("latent_format").scale_factor
    for theirs, ours in zip(in_comfyui, in_headless, strict=True):
        assert difference(ours.noise, theirs[0]["samples"] * scale) < TOLERANCE
        assert ours.features.header.sigmas == theirs[1].header.sigmas
        assert ours.features.header.grids == theirs[1].header.grids


def test_both_reconstruct_the_same(demo, headless, in_comfyui, in_headless):
    content, _ = in_comfyui
    noise, _, sigmas, *_ = content
    plain = reconstruct(headless, in_headless[0], Recipe(steps=STEPS))
    assert difference(plain, sampled(demo[0], demo, noise, sigmas)) < TOLERANCE


@pytest.mark.parametrize("method", FUSIONS)
def test_both_stylize_the_same(demo, headless, in_comfyui, in_headless, method, record_property):
    content, style = in_comfyui
    settings = FusionSettings(method)
    bank = FeatureBankNode.execute(content[1], style[1]).args[0]
    knobs = settings.knobs
    patched = PatchFFA.execute(
        model=demo[0], bank=bank, layers="output.6-11", start_percent=0.0, end_percent=1.0, **knobs
    ).args[0]
    start = InitialLatent.execute(content[0], style[0], "adain", 1.0).args[0]
    theirs = sampled(patched, demo, start, content[2])
    ours = stylize(headless, *in_headless, Recipe(settings, steps=STEPS))
    print(f"{method}: relative difference {difference(ours, theirs):.2e}")
    assert difference(ours, theirs) < TOLERANCE


def painted(demo, bank, start, method):
    """The first outputs of an inversion node sampled with a bank."""
    settings = FusionSettings(method)
    knobs = settings.knobs
    patched = PatchFFA.execute(
        model=demo[0], bank=bank, layers="output.6-11", start_percent=0.0, end_percent=1.0, **knobs
    ).args[0]
    noise, _, sigmas, *_ = start
    return sampled(patched, demo, noise, sigmas)


def test_both_copy_the_contents_resnet(demo, headless, pictures, in_comfyui, in_headless):
    """DiffStyler's second half: the inputs of one decoder ResNet, kept on request. From the style's noise they tell."""
    model, vae, conditioning = demo[:3]
    latent = VAEEncode().encode(vae, pictures[0])[0]
    inputs = {"steps": STEPS, "scheduler": "ddim_uniform", "layers": "output.3-11", "storage": "features"}
    content = InvertContent.execute(
        model=model, latent=latent, conditioning=conditioning, roles="all and ResNet", **inputs
    ).args
    with_it, without = (
        painted(demo, FeatureBankNode.execute(features, in_comfyui[1][1]).args[0], in_comfyui[1], "diffstyler")
        for features in (content[1], in_comfyui[0][1])
    )
    recipe = Recipe(FusionSettings("diffstyler"), steps=STEPS)
    own = invert(headless, headless.encode(pictures[0].movedim(-1, 1) * 2 - 1), recipe)
    bank = FeatureBank(own.features, (StyleEntry(in_headless[1].features),))
    ours = paint(headless, bank, in_headless[1].noise_pair, recipe)
    assert own.features.roles == "qkvx"
    apart = difference(ours, with_it)
    assert apart < TOLERANCE
    assert difference(without, with_it) > 10 * apart  # on this model the copied ResNet changes little, but it does


def test_both_add_the_portraits_detail(demo, headless, pictures, in_comfyui, in_headless):
    model, vae, conditioning = demo[:3]
    latent = VAEEncode().encode(vae, pictures[0])[0]
    content = InvertContent.execute(
        model=model,
        latent=latent,
        conditioning=conditioning,
        steps=STEPS,
        scheduler="ddim_uniform",
        layers="output.6-11",
        storage="features",
        roles="all and detail",
    ).args
    bank = FeatureBankNode.execute(content[1], in_comfyui[1][1]).args[0]
    settings = FusionSettings("mast", controls=StyleControls(detail=1.0))
    patched = install_fusion(demo[0], bank, settings, "output.6-11", 0.0, 1.0)
    start = InitialLatent.execute(content[0], in_comfyui[1][0], "adain", 1.0).args[0]
    theirs = sampled(patched, demo, start, content[2])
    recipe = Recipe(settings, steps=STEPS)
    own = invert(headless, headless.encode(pictures[0].movedim(-1, 1) * 2 - 1), recipe)
    plain = Recipe(FusionSettings("mast"), steps=STEPS)
    ours, without = (stylize(headless, own, in_headless[1], chosen) for chosen in (recipe, plain))
    assert own.features.roles == "qkvh"
    assert difference(ours, theirs) < TOLERANCE
    assert difference(without, theirs) > 3 * TOLERANCE


@pytest.mark.parametrize("kind", ["nvqg", "spg"])
def test_both_guide_by_style_the_same(demo, headless, pictures, kind):
    model, vae, conditioning = demo[:3]
    inputs = {"steps": STEPS, "scheduler": "ddim_uniform", "layers": "output.3-11", "storage": "features"}
    content, style = (
        node.execute(model=model, latent=VAEEncode().encode(vae, picture)[0], conditioning=conditioning, **inputs).args
        for node, picture in zip((InvertContent, InvertStyle), pictures, strict=True)
    )
    bank = FeatureBankNode.execute(content[1], style[1]).args[0]
    styled = install_fusion(model, bank, FusionSettings(), "output.6-11", 0.0, 1.0)
    guiding = install_fusion(model, bank, FusionSettings("nvqg"), "auto", 0.0, 1.0)
    guidance = StyleGuidance(kind, 1.5)
    guider = StyleGuider(*((styled, guiding) if kind == "nvqg" else (model, styled)), guidance)
    guider.set_conds(conditioning)
    guider.set_cfg(1.0)
    start = InitialLatent.execute(content[0], style[0], "adain", 1.0).args[0]["samples"]
    sampler = comfy.samplers.sampler_object("ddim")
    found = guider.sample(torch.zeros_like(start), start, sampler, content[2], seed=0)
    theirs = found * model.get_model_object("latent_format").scale_factor
    recipe = Recipe(steps=STEPS, guidance=guidance)
    own = [invert(headless, headless.encode(picture.movedim(-1, 1) * 2 - 1), recipe) for picture in pictures]
    ours, without = (stylize(headless, *own, chosen) for chosen in (recipe, Recipe(steps=STEPS)))
    assert difference(ours, theirs) < TOLERANCE
    assert difference(without, theirs) > 10 * TOLERANCE


def test_comfyui_opens_a_style_of_the_command_lines_library(
    demo, headless, pictures, in_comfyui, in_headless, tmp_path, monkeypatch
):
    recipe, style = Recipe(steps=STEPS, layers="all"), StyleName("style.png", "0" * 12)
    tensor = pictures[1].movedim(-1, 1) * 2 - 1
    found = invert(headless, headless.encode(tensor), recipe, storage="latents").features
    Library(FolderStore(tmp_path), "key").put(style, found, headless.scale_factor)
    monkeypatch.setattr(files, "path_of", lambda name: tmp_path / "key" / style.file)
    bank, noise, _ = files.LoadFeatureBank.execute("style", content=in_comfyui[0][1]).args
    scale = demo[0].get_model_object("latent_format").scale_factor
    assert difference(noise["samples"] * scale, in_headless[1].noise) < TOLERANCE
    start = InitialLatent.execute(in_comfyui[0][0], noise, "adain", 1.0).args[0]
    theirs = painted(demo, bank, (start, None, in_comfyui[0][2]), "ffa")
    assert difference(stylize(headless, *in_headless, Recipe(steps=STEPS)), theirs) < 2 * TOLERANCE


def test_copies_of_a_style_weigh_the_same_in_both(demo, headless, in_comfyui, in_headless):
    region = torch.full((1, 8, 8), 0.5)

    def bank(content, style):
        return FeatureBank(content, (StyleEntry(style, 0.5, region), StyleEntry(style, 0.5, region)))

    theirs = painted(demo, bank(in_comfyui[0][1], in_comfyui[1][1]), in_comfyui[0], "ffa")
    recipe = Recipe(FusionSettings("ffa"), steps=STEPS)
    ours = paint(headless, bank(*(entry.features for entry in in_headless)), in_headless[0].noise_pair, recipe)
    assert difference(ours, theirs) < TOLERANCE


def test_the_vae_decodes_to_the_same_picture(demo, headless, in_headless):
    scale = demo[0].get_model_object("latent_format").scale_factor
    latent = reconstruct(headless, in_headless[0], Recipe(steps=STEPS))
    (theirs,) = VAEDecode().decode(demo[1], {"samples": latent / scale})
    ours = (headless.decode(latent) + 1) / 2
    assert float((ours.movedim(1, -1) - theirs).abs().max()) < 1e-3


def test_a_damaged_install_is_named_in_one_sentence(monkeypatch, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"")
    monkeypatch.setattr(node_module, "DEMO_STYLE", tmp_path / "broken.png")
    with pytest.raises(MagicStyleError, match="broken.png is missing or damaged: install the pack again"):
        DemoModel.execute()

"""The portrait's detail in a UNet's decoder (MAST's DDI), run to the end in a real ComfyUI."""

import pytest
import torch
import torch._dynamo
from comfy.ldm.modules.diffusionmodules.openaimodel import TimestepBlock
from comfy_extras.nodes_torch_compile import TorchCompileModel
from magicstyle.attention_patches.comfy import install_fusion
from magicstyle.banks.bank import FeatureBank, StyleEntry
from magicstyle.core.controls import StyleControls
from magicstyle.core.errors import MagicStyleError
from magicstyle.core.fusion import FusionSettings
from magicstyle.tests.core.oracle import RULES
from magicstyle.tests.host import scene as scenes
from magicstyle.tests.host.fusion_oracle import stylize_with_detail
from magicstyle.tests.host.scene import SCALE, STRONG, difference, inversion, own_lines, patch, sample
from magicstyle.tests.host.test_methods import KNOBS, PUBLISHED, with_lora
from magicstyle.tests.host.tiny import tiny_conditioning, tiny_sigmas

STEPS = 5
FAINT = 4.0
TOLD = 2e-3  # what detail changes at least, twenty times what two runs of one may differ by
KEPT = {"features": {"roles": "all and detail"}, "latents": {"storage": "latents"}}


@pytest.fixture(autouse=True)
def inference():
    with torch.inference_mode():
        yield


class Other(TimestepBlock):
    def __init__(self, known):
        super().__init__()
        self.known = [known]

    def forward(self, x, emb):
        return self.known[0](x, emb)


def picture(**more):
    """Fainter than other tests have it: in a random network strong pictures look alike to the ResNets."""
    return scenes.picture(**more) * FAINT / STRONG


def scene(model, *, batch=1, steps=5, **more):
    """(content inversion, bank) for two pictures."""
    content = inversion(model, picture(batch=batch), steps, **more)
    style = inversion(model, picture(seed=9), steps, **more)
    return content, FeatureBank(content.features, (StyleEntry(style.features),))


def detailed(model, bank, detail=1.0, **knobs):
    return patch(model, bank, controls=StyleControls(detail=detail), **knobs)


@pytest.mark.parametrize("storage", KEPT)
@pytest.mark.parametrize("name, strength", [("mast", 1.0), ("ffa", 0.5), ("zstar", 1.0)])
def test_detail_equals_its_formula_after_a_full_run(tiny_model, name, strength, storage):
    content, bank = scene(tiny_model, steps=STEPS, **KEPT[storage])
    knobs = KNOBS.get(name, PUBLISHED)
    ours, without = (
        sample(detailed(tiny_model, bank, detail, method=name, **knobs), content) * SCALE for detail in (strength, 0.0)
    )
    latents, sigmas = (picture() * SCALE, picture(seed=9) * SCALE), tiny_sigmas(tiny_model, STEPS)
    context = tiny_conditioning()[0][0]
    theirs = stylize_with_detail(tiny_model.model, *latents, sigmas, context, RULES[name], strength)
    assert difference(ours, theirs) <= 1e-4
    assert difference(without, theirs) > TOLD


def test_rows_of_two_prompts_and_two_portraits_have_each_its_own(tiny_model):
    content, bank = scene(tiny_model, batch=2, steps=3, roles="all and detail")
    prompts = tiny_conditioning(seed=5), tiny_conditioning(seed=4)
    both, plain = (sample(detailed(tiny_model, bank, detail), content, 3.0, *prompts) for detail in (1.0, 0.0))
    assert difference(both, plain) > TOLD
    for number in range(2):
        alone = inversion(tiny_model, picture(batch=2)[number : number + 1], 3, roles="all and detail")
        single = FeatureBank(alone.features, bank.styles)
        assert difference(both[number], sample(detailed(tiny_model, single), alone, 3.0, *prompts)[0]) <= 1e-4


def test_a_method_that_leaves_the_models_own_attention_adds_nothing(tiny_model):
    """Its picture is the model's, to the last bit."""
    content, bank = scene(tiny_model, steps=3, roles="all and detail")
    off = {"style_weight": 0.0, "content_weight": 0.0, "query_preservation": 0.0, "temperature": 1.0}
    assert torch.equal(sample(detailed(tiny_model, bank, **off), content), sample(tiny_model, content))


def test_what_a_mask_keeps_gets_none(tiny_model):
    content, bank = scene(tiny_model, steps=3, roles="all and detail")
    half = torch.zeros(1, 8, 12)
    half[..., :6] = 1.0

    def kept(mask, detail):
        settings = FusionSettings("mast", controls=StyleControls(detail=detail))
        return sample(install_fusion(tiny_model, bank, settings, "output.6-11", 0.0, 1.0, keep=mask), content)

    white = torch.ones(1, 8, 12)
    assert torch.equal(kept(white, 1.0), kept(white, 0.0))
    black, part = (difference(kept(mask, 1.0), kept(mask, 0.0)) for mask in (torch.zeros(1, 8, 12), half))
    assert black > TOLD / 2 and 0.0 < part < 0.9 * black


def test_of_two_patchers_each_adds_its_own(tiny_model):
    """A replay for one runs inside the other's model call, and hears nothing of its hooks."""
    content, bank = scene(tiny_model, steps=3, storage="latents")
    held, features = scene(tiny_model, steps=3, roles="all and detail")
    results = []
    for start, stored in ((content, bank), (held, features)):
        early = detailed(tiny_model, stored, end=0.6)
        results.append(sample(detailed(early, stored, 0.5, start=0.4), start))
    assert difference(*results) <= 1e-4
    once = sample(detailed(tiny_model, features, end=0.6), held)
    assert difference(results[1], once) > TOLD


def test_a_lora_after_the_inversion_leaves_the_portraits_detail(tiny_model):
    lora, results = with_lora(tiny_model), []
    for kept in KEPT.values():
        content, bank = scene(tiny_model, steps=3, **kept)
        results.append(sample(detailed(lora, bank), content))
    assert difference(*results) <= 1e-4
    assert difference(results[0], sample(detailed(lora, bank, 0.0), content)) > TOLD


def test_the_network_is_left_without_hooks(tiny_model):
    content, bank = scene(tiny_model, steps=2, roles="all and detail")
    sample(detailed(tiny_model, bank), content)
    modules = tiny_model.model.diffusion_model.modules()
    assert not any(module._forward_hooks for module in modules)


def test_a_network_whose_resnets_never_come_by_is_named(tiny_model, caplog):
    """As another pack's blocks would be that hand the transformers what they made themselves."""
    content, bank = scene(tiny_model, steps=2, roles="all and detail")

    other = tiny_model.clone()
    for number in range(6, 12):
        place = f"diffusion_model.output_blocks.{number}.0"
        other.add_object_patch(place, Other(tiny_model.get_model_object(place)))
    assert difference(sample(detailed(other, bank), content), sample(detailed(tiny_model, bank, 0.0), content)) < 1e-5
    said = "detail of Style Controls had nothing to act on before output.6.0, output.7.0"
    assert sum(said in line for line in own_lines(caplog)) == 1


def test_an_inversion_whose_resnets_never_come_by_is_refused(tiny_model):
    other = tiny_model.clone()
    for number in range(6, 12):
        place = f"diffusion_model.output_blocks.{number}.0"
        other.add_object_patch(place, Other(tiny_model.get_model_object(place)))
    with pytest.raises(MagicStyleError, match="The ResNets before layers output.6-11 never came by"):
        inversion(other, picture(), 2, roles="all and detail")


def test_what_is_missing_is_named(tiny_model):
    content, bank = scene(tiny_model, steps=2)
    with pytest.raises(MagicStyleError, match="reads what the content's ResNets add, .* set roles to 'all and detail'"):
        detailed(tiny_model, bank)
    with pytest.raises(MagicStyleError, match="adds that of a portrait, and the bank has none: set detail to 0"):
        detailed(tiny_model, FeatureBank(None, bank.styles), method="zstar")
    wide = scene(tiny_model, steps=2, layers="input.4, output.6-11", roles="all and detail")[1]
    with pytest.raises(MagicStyleError, match=r"layers input.4.0 hold none of these: set detail to 0"):
        detailed(tiny_model, wide, layers="input.4")
    with pytest.raises(MagicStyleError, match="roles is 'all and detail', but layers 'input.4' hold no decoder block"):
        inversion(tiny_model, picture(), 2, "input.4", roles="all and detail")
    with pytest.raises(MagicStyleError, match="attends to no style, so that style controls have nothing to act on"):
        detailed(tiny_model, FeatureBank(content.features, ()), method="diffstyler")


def test_it_is_kept_beside_the_features(tiny_model):
    plain, kept = (inversion(tiny_model, picture(), 2, roles=roles) for roles in ("all", "all and detail"))
    assert kept.features.roles == "qkvh" and torch.equal(plain.noise["samples"], kept.noise["samples"])
    found = kept.features.tensors
    shapes = {name: found[name].shape for name in found if name.endswith(".h")}
    assert shapes == {name.replace(".k", ".h"): found[name].shape for name in found if name.endswith(".k")}


@pytest.mark.parametrize("first", [0.0, 1.0], ids=["plain first", "detailed first"])
def test_a_compiled_model_adds_it_too(tiny_model, first):
    """What was compiled without hooks, by a run before or by the first step, must not be what later steps run."""
    content, bank = scene(tiny_model, steps=4, roles="all and detail")
    torch._dynamo.reset()
    (compiled,) = TorchCompileModel.execute(model=tiny_model, backend="eager").args
    sample(detailed(compiled, bank, first), content)
    plain, ours = (sample(detailed(model, bank), content) for model in (tiny_model, compiled))
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0
    assert difference(ours, plain) <= 1e-4
    assert difference(sample(detailed(compiled, bank, 0.0), content), plain) > TOLD
    assert difference(sample(detailed(compiled, bank), content), plain) <= 1e-4

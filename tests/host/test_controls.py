"""The knobs of other packs, run to the end in a real ComfyUI, against their formulas in plain torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from operator import attrgetter
from typing import Any

import pytest
import torch
from einops import rearrange
from magicstyle.attention_patches.architectures import find
from magicstyle.attention_patches.call import Call, RowPlan, TokenLayout
from magicstyle.attention_patches.placing import Placer, Positions
from magicstyle.banks.bank import FeatureBank, StyleEntry
from magicstyle.core.attention import Kernel
from magicstyle.core.controls import StyleControls
from magicstyle.core.features import AttentionFeatures
from magicstyle.core.layers import LayerId
from magicstyle.tests.core.oracle import RULES, controlled
from magicstyle.tests.host.families import FAMILIES, family_model, family_prompt
from magicstyle.tests.host.family_scene import (
    STYLE,
    content_latent,
    difference,
    every,
    inverted,
    patched,
    prompts,
    sample,
    scene,
    style_latent,
)
from magicstyle.tests.host.flow_oracle import FlowOracle, Patcher
from magicstyle.tests.host.flow_rules import RuleCall, Style, softmax_attention, statistics
from magicstyle.tests.host.fusion_oracle import stylize
from magicstyle.tests.host.scene import SCALE, picture
from magicstyle.tests.host.scene import patch as unet_patch
from magicstyle.tests.host.scene import sample as unet_sample
from magicstyle.tests.host.scene import scene as unet_scene
from magicstyle.tests.host.tiny import tiny_conditioning, tiny_sigmas

STEPS = 5
CLOSE = 1e-4
DESCENT = torch.tensor([0.9, 0.6, 0.4, 0.2, 0.0])
KNOBS = {
    "ffa": {"content_weight": 0.05, "query_preservation": 0.75, "temperature": 1.5},
    "styleid": {"query_preservation": 0.75, "temperature": 1.5},
}
ALL = {"align": 0.6, "key_scale": 1.2, "mix": 0.7}
ROTARY = [name for name in FAMILIES if find(family_model(name)).rotation is not None]
JOINT = [name for name in ("flux", "qwen", "z-image", "krea2", "sd3.5") if name in FAMILIES]
WITH_STYLES = ("ffa", "styleid", "sac", "seac", "zstar", "style_aligned", "rsa")


@pytest.fixture(autouse=True)
def inference():
    with torch.inference_mode():
        yield


@pytest.fixture(scope="module", autouse=True)
def forget_scenes():
    yield
    scene.cache_clear()


# --- SD1.5 -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("storage", ["features", "latents"])
@pytest.mark.parametrize("name", WITH_STYLES)
def test_every_method_with_every_knob_equals_its_formula_after_a_full_run(tiny_model, name, storage):
    content, bank = unet_scene(tiny_model, storage=storage)
    knobs = KNOBS.get(name, {"query_preservation": 0.0})
    ours = unet_patch(tiny_model, bank, method=name, controls=StyleControls(**ALL), **knobs)
    plain = unet_sample(unet_patch(tiny_model, bank, method=name, **knobs), content) * SCALE

    def rule(*given, **more):
        return controlled(RULES[name], *given, **ALL, **more)

    theirs = by_hand(tiny_model, rule, matched=name == "cocodiff")
    assert difference(unet_sample(ours, content) * SCALE, theirs) <= CLOSE
    assert difference(plain, theirs) > 1e-3


def by_hand(model, rule, *, matched=False):
    latents = picture() * SCALE, picture(seed=9) * SCALE
    return stylize(model.model, *latents, tiny_sigmas(model, STEPS), tiny_conditioning()[0][0], rule, matched=matched)


def test_a_weight_that_moves_reaches_its_end_in_the_last_step(tiny_model):
    content, bank = unet_scene(tiny_model)
    knobs = {"content_weight": 0.5, "query_preservation": 0.75, "temperature": 1.5}
    moving = unet_patch(tiny_model, bank, style_weight=0.2, controls=StyleControls(style_weight_end=4.0), **knobs)

    def rule(live, content, style, heads, done, t):
        weight = 0.2 + 3.8 * (done * STEPS) / (STEPS - 1)
        return RULES["ffa"](live, content, style, heads, done, t, w_s=weight, w_c=0.5)

    assert difference(unet_sample(moving, content) * SCALE, by_hand(tiny_model, rule)) <= CLOSE


def test_controls_at_rest_change_no_bit(tiny_model):
    content, bank = unet_scene(tiny_model)
    for method in WITH_STYLES:
        plain, at_rest = (
            unet_sample(unet_patch(tiny_model, bank, method=method, **more), content)
            for more in ({}, {"controls": StyleControls(style_weight_end=1.0)})
        )
        assert torch.equal(plain, at_rest)


def test_a_text_that_is_not_there_cannot_see_the_style(tiny_model, caplog):
    content, bank = unet_scene(tiny_model)
    unet_sample(unet_patch(tiny_model, bank, controls=StyleControls(text_sees_style=True)), content)
    assert "text_sees_style had nothing to act on: in this model the prompt has no part" in caplog.text


# --- transformers ----------------------------------------------------------------------------------------------------


def union(call: RuleCall, scale: float) -> torch.Tensor:
    """The style beside the picture."""
    return call.answer(call.live[0], *call.of_styles(scale), (*call.live[1:], 1.0))


def words(call: RuleCall, scale: float | None) -> torch.Tensor:
    """What the text answers beside the picture, with the style's keys or without them: all see the same."""
    parts = [call.rest[1:], call.live[1:]]
    if scale is not None:
        parts.append((scale * call.style[1], call.style[2]))
    return softmax_attention(call.rest[0], *(torch.cat([part[i] for part in parts], 2) for i in (0, 1)))


def krea(a: float, scale: float | Callable[[float], torch.Tensor], mix: float, text: bool = False):
    """O = (1 - x) Attn(Q^, [K_txt; K^]) + x Attn(Q^, [K_txt; K^; kappa S K_s]), for all rows or for the picture's."""

    def rule(call: RuleCall):
        by = scale(call.done) if callable(scale) else scale
        q, k = ((1 - a) * call.live[i] + a * statistics(call.live[i], call.style[i]) for i in (0, 1))
        call = call._replace(live=(q, k, call.live[2]))
        own = call.answer(q, (k, call.live[2], 1.0))
        out = (1 - mix) * own + mix * union(call, by)
        return (out, (1 - mix) * words(call, None) + mix * words(call, by)) if text else out

    return rule


@pytest.mark.parametrize("text", [False, True], ids=["blind text", "seeing text"])
@pytest.mark.parametrize("cfg, batch, storage", [(1.0, 1, "features"), (3.0, 2, "latents")])
@every(*JOINT)
def test_the_recipe_of_krea_equals_its_formula(name, cfg, batch, storage, text):
    content, bank = scene(name, batch=batch, storage=storage)
    controls = StyleControls(align=0.85, key_scale=1.06, mix=0.6, text_sees_style=text)
    ours = sample(patched(name, bank, method="style_aligned", controls=controls), content, cfg, *prompts(name))
    patcher = Patcher(krea(0.85, 1.06, 0.6, text), (Style(style_latent(name)),))
    expected = FlowOracle(name).stylize(
        content_latent(name, batch=batch), (patcher,), content.sigmas, family_prompt(name), *prompts(name), cfg
    )
    assert difference(ours, expected) <= CLOSE
    blind = patched(name, bank, method="style_aligned", controls=StyleControls(align=0.85, key_scale=1.06, mix=0.6))
    if text:
        assert difference(sample(blind, content, cfg, *prompts(name)), expected) > 1e-3


@every(*JOINT)
def test_controls_at_rest_change_no_bit_of_a_transformers_picture(name):
    content, bank = scene(name)
    plain, at_rest = (
        sample(patched(name, bank, method="styleid", **more), content, 1.0, *prompts(name))
        for more in ({}, {"controls": StyleControls(style_weight_end=1.0)})
    )
    assert torch.equal(plain, at_rest)


def moving_scales(name: str, steps: int, start: float = 1.04, end: float = 1.1):
    """kappa S_j, written down pair by pair: high `start` -> 0, low 1 -> `end`, beta 2.5, axis 0 flat low."""
    widths = find(family_model(name)).rotation.widths

    def scales(done: float) -> torch.Tensor:
        progress = done * steps / (steps - 1)
        high, low, found = start * (1 - progress), 1.0 + (end - 1.0) * progress, []
        for axis, width in enumerate(widths):
            for j in range(width // 2):
                curved = high + (low - high) * (j / (width // 2 - 1)) ** 2.5
                found += 2 * [1.06 * (curved if axis in (1, 2) else low)]
        return torch.tensor(found)

    return scales


@pytest.mark.parametrize("text", [False, True], ids=["blind text", "seeing text"])
@every(*[name for name in ("flux", "flux2", "qwen", "z-image", "krea2") if name in FAMILIES])
def test_frequencies_that_move_are_those_of_the_formula_at_every_step(name, text):
    content, style = (
        inverted(name, latent, layers="all", sigmas=DESCENT) for latent in (content_latent(name), style_latent(name))
    )
    bank = FeatureBank(content.features, (StyleEntry(style.features),))
    ends = {"high_frequencies_end": 0.0, "low_frequencies_end": 1.1, "rise": 2.5, "other_axes": "low"}
    controls = StyleControls(align=0.85, key_scale=1.06, text_sees_style=text)
    model = patched(
        name, bank, method="style_aligned", positions=Positions("untwist", 1.04, 1.0, **ends), controls=controls
    )
    patcher = Patcher(krea(0.85, moving_scales(name, 4), 1.0, text), (Style(style_latent(name)),))
    expected = FlowOracle(name).stylize(
        content_latent(name), (patcher,), DESCENT, family_prompt(name), *prompts(name), 3.0
    )
    assert difference(sample(model, content, 3.0, *prompts(name)), expected) <= CLOSE


def embedder_of(name: str) -> Any:
    """What makes a family's positions from the places of its tokens; None where something else does."""
    network = family_model(name).model.diffusion_model
    for attribute in ("pe_embedder", FAMILIES[name].embedder):
        if hasattr(network, attribute.split(".")[0]):
            return attrgetter(attribute)(network)
    return None


EMBEDDED = [name for name in ROTARY if embedder_of(name) is not None]


@contextmanager
def hooked(name: str, *, without_places: bool) -> Iterator[None]:
    """Refiners attend to nothing; and every token stands at the origin: what enters the embedder is zero."""
    with ExitStack() as stack:
        for block in getattr(family_model(name).model.diffusion_model, "noise_refiner", ()):
            attention = getattr(block, "attention", None) or block.attn
            stack.callback(attention.register_forward_hook(lambda module, inputs, out: torch.zeros_like(out)).remove)
        if without_places:
            zeroed = embedder_of(name).register_forward_pre_hook(
                lambda module, inputs: (torch.zeros_like(inputs[0]), *inputs[1:])
            )
            stack.callback(zeroed.remove)
        yield


@every(*EMBEDDED)
def test_turning_back_gives_what_the_host_had_before_it_turned(name):
    architecture, layer = find(family_model(name)), FAMILIES[name].layers[0]
    prompt, latent, sigma = family_prompt(name), style_latent(name), torch.tensor(0.5)
    with hooked(name, without_places=False):
        standing = FlowOracle(name).velocity(latent, sigma, prompt)[1][layer]
    with hooked(name, without_places=True):
        upright = FlowOracle(name).velocity(latent, sigma, prompt)[1][layer]
    grid, text = next(iter(architecture.grids(STYLE).values())), FAMILIES[name].text_tokens(prompt[0][0].shape[1])
    length = prompt[0][0].shape[1] if name != "flux2" else 512
    q, k, _ = (rearrange(x, "b h n d -> b n (h d)") for x in standing)
    live = AttentionFeatures(q, k)
    call = Call(
        *(LayerId(*layer_parts(layer)), TokenLayout(grid, depth=architecture.depth(max(text, length)))),
        *(RowPlan(), live, Kernel(lambda *_: q, standing[0].shape[1], takes_key_mask=False)),
    )
    turn = Placer(name, architecture.rotation, Positions(), centred=architecture.centred).turn(call)
    for found, expected in zip((q, k), upright, strict=False):
        assert difference(turn.undone(found), rearrange(expected, "b h n d -> b n (h d)")) <= 1e-5


def layer_parts(layer: str) -> tuple[str, int, int]:
    block, number, index = layer.split(".")
    return block, int(number), int(index)


@every(*[name for name in ("flux", "qwen", "z-image", "krea2") if name in FAMILIES])
def test_aligning_before_the_rotation_runs_and_differs_from_after(name):
    content, bank = scene(name)
    painted = [
        sample(
            patched(name, bank, method="zstar", controls=StyleControls(align=0.5, align_before_rotation=before)),
            content,
            *(1.0, *prompts(name)),
        )
        for before in (False, True)
    ]
    assert torch.isfinite(painted[1]).all() and difference(*painted) > 1e-4

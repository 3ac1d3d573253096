"""A LoRA that the host has just trained acts in one prompt, as its loader would let it act everywhere."""

import inspect

import comfy.hooks
import comfy.model_patcher
import comfy.sd
import pytest
import torch
from magicstyle.core.errors import MagicStyleError
from magicstyle.nodes.demo_model import DemoModel
from magicstyle.nodes.trained_lora import TrainedLoraHook
from magicstyle.tests.host.scene import difference, picture
from magicstyle.tests.host.test_methods import lora_file
from magicstyle.tests.host.tiny import run_sampler, tiny_conditioning, tiny_sigmas

COPIES = "force_deepcopy" in inspect.signature(comfy.model_patcher.ModelPatcher.clone).parameters


@pytest.fixture(autouse=True)
def inference():
    with torch.inference_mode():
        yield


def sampled(model, hooks=None):
    """Three steps under a prompt with these hooks."""
    prompt = comfy.hooks.set_conds_props([tiny_conditioning()], 1.0, "default", None, hooks)[0]
    return run_sampler(model, picture(), tiny_sigmas(model, 3), positive=prompt)


def hook(lora, strength=0.7, **more):
    return TrainedLoraHook.execute(lora, strength, **more).args[0]


def test_a_hook_paints_as_the_loader_does(tiny_model):
    lora = {name: torch.nn.Parameter(tensor) for name, tensor in lora_file(tiny_model, 1).items()}
    loaded, _ = comfy.sd.load_lora_for_models(tiny_model, None, lora, 0.7, 0.0)
    hooked, plain = sampled(tiny_model, hook(lora)), sampled(tiny_model)
    assert difference(hooked, sampled(loaded)) <= 1e-5
    assert difference(hooked, plain) > 1e-3
    assert torch.equal(sampled(tiny_model, hook(lora, 0.0)), plain)


def test_hooks_of_one_prompt_act_together(tiny_model):
    first, second = (lora_file(tiny_model, seed) for seed in (1, 2))
    loaded = tiny_model
    for lora in (first, second):
        loaded, _ = comfy.sd.load_lora_for_models(loaded, None, lora, 0.7, 0.0)
    both = hook(second, prev_hooks=hook(first))
    assert difference(sampled(tiny_model, both), sampled(loaded)) <= 1e-5


@pytest.mark.parametrize("lora", [{}, None])
def test_what_is_no_lora_is_refused(lora):
    with pytest.raises(MagicStyleError, match="lora holds no weights: connect lora of Train LoRA"):
        hook(lora)


@pytest.mark.skipif(not COPIES, reason="this ComfyUI trains on the model itself")
def test_the_host_copies_the_demo_model_with_weights_of_its_own():
    model = DemoModel.execute().args[0]
    copied = model.clone(force_deepcopy=True)
    own, theirs = (each.model.state_dict() for each in (model, copied))
    assert own.keys() == theirs.keys() and all(torch.equal(own[name], theirs[name]) for name in own)
    assert not {tensor.data_ptr() for tensor in own.values()} & {tensor.data_ptr() for tensor in theirs.values()}

"""The pack's one private entry in the host's options."""

import pytest
import torch
from comfy.patcher_extension import WrappersMP
from magicstyle.attention_patches.entry import KEY, Entry
from magicstyle.tests.host.scene import patch, sample, scene


@pytest.fixture(autouse=True)
def inference():
    with torch.inference_mode():
        yield


@pytest.mark.parametrize("patchers", [1, 2])
def test_one_entry_carries_everything_and_is_gone_after_the_run(tiny_model, patchers):
    content, bank = scene(tiny_model, steps=2, storage="latents")
    patched, seen = tiny_model, []
    for _ in range(patchers):
        patched = patch(patched, bank, method="rsa")

    def look(executor, *args, **kwargs):
        options = args[5]
        seen.append(({key for key in options if str(key).startswith("magicstyle")}, Entry.of(options)))
        return executor(*args, **kwargs)

    patched.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "look", look)
    sample(patched, content, cfg=3.0)
    assert all(keys == {KEY} and len(entry.runs) == patchers for keys, entry in seen)
    # replays of two pictures for each patcher before the step's own call
    assert [entry.replaying for _, entry in seen].count(True) == 2 * patchers * len(bank.content.header.sigmas)
    assert KEY not in patched.model_options["transformer_options"]

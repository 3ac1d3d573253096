"""What is kept while a picture is inverted."""

from dataclasses import replace

import pytest
import torch
from magicstyle.attention_patches.call import Call, RowPlan, TokenLayout
from magicstyle.attention_patches.capture import RECORDERS, RecordingSpec, TrajectoryRecorder
from magicstyle.attention_patches.model_call import ModelCall
from magicstyle.banks.image_features import FeatureHeader
from magicstyle.banks.level_groups import LevelGroups
from magicstyle.banks.placement import in_memory
from magicstyle.banks.representations import REPRESENTATIONS
from magicstyle.core.features import AttentionFeatures, ModelId
from magicstyle.core.grid import Grid
from magicstyle.core.layers import LayerId
from magicstyle.core.noise_pair import NoisePair
from magicstyle.tests.core.oracle import kernel, randn

HEADER = FeatureHeader(ModelId("SD15", "x"), "ddim", (8.0, 2.0, 1.0), (1, 4, 3, 5), {})

LAYOUT = TokenLayout(Grid((3, 5)))


def call(context, **more):
    return ModelCall(
        torch.zeros(context.shape[0], 4, 3, 5), torch.ones(context.shape[0]), {"c_crossattn": context, **more}, None, {}
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_the_latents_of_all_steps_are_kept_whatever_the_order_of_the_walk(dtype):
    recorder, latents, went = TrajectoryRecorder(3, dtype), [randn(step, 1, 4, 3, 5) for step in range(3)], []
    for step in (2, 0, 1):
        running = latents[step].clone()
        with recorder.recording((step,), running):
            went.append(step)
            recorder.see_inputs(call(torch.full((1, 7, 8), float(step))))
        running.zero_()  # the walk goes on with its tensors
    kept = recorder.close(HEADER, NoisePair(latents[0]))
    assert went == [2, 0, 1] and kept.latents.dtype == dtype
    torch.testing.assert_close(kept.latents, torch.stack(latents).to(dtype), rtol=0, atol=0)
    assert torch.equal(kept.inputs["c_crossattn"], torch.full((1, 7, 8), 2.0))  # those of the first call


def test_steps_that_share_a_call_are_kept_apart_and_the_inputs_of_one():
    recorder, rows = TrajectoryRecorder(3, torch.float32), randn(1, 3, 4, 3, 5)
    with recorder.recording((0, 1, 2), rows):
        recorder.see_inputs(call(torch.ones(3, 7, 8), num_tokens=7))
    kept = recorder.close(HEADER, NoisePair(rows[:1]))
    assert torch.equal(kept.latents, rows.unsqueeze(1))
    assert kept.inputs["c_crossattn"].shape == (1, 7, 8)
    assert kept.header.constants == {"num_tokens": 7}


def test_a_walk_that_left_out_a_step_is_no_trajectory():
    recorder, latent = TrajectoryRecorder(2, torch.float32), randn(1, 1, 4, 3, 5)
    with recorder.recording((1,), latent):
        pass
    with pytest.raises(KeyError):
        recorder.close(HEADER, NoisePair(latent))


def test_every_representation_has_a_recorder_that_ends_in_it_and_asks_for_room_where_it_needs_some():
    layer, made = LayerId("output", 9, 0), []

    def room():
        made.append("room")
        return in_memory()

    for name, kind in REPRESENTATIONS.items():
        recorder = RECORDERS[name](RecordingSpec((layer,), LevelGroups(3, 2), "k", torch.float8_e4m3fn, room))
        for step in (2, 1, 0):
            with recorder.recording((step,), torch.full((1, 4, 3, 5), float(step))):
                recorder.see_inputs(call(torch.ones(1, 7, 8)))
                if recorder.handlers is not None:
                    live = AttentionFeatures(*(torch.full((1, 15, 8), float(step)) for _ in range(3)))
                    recorder.handlers.attention(Call(layer, LAYOUT, RowPlan(), live, kernel(2, True)))
        kept = recorder.close(replace(HEADER, every=2), NoisePair(torch.zeros(1, 4, 3, 5)))
        assert type(kept) is kind and kept.representation == name
        stack = kept.tensors["output.9.0.k" if name == "features" else "latents"]
        assert stack.dtype == (torch.float8_e4m3fn if name == "features" else torch.float16)
        assert [float(part.float().mean()) for part in stack] == [0.0, 2.0]  # the noisier of two, and the last
    assert made == ["room"] and RECORDERS.keys() == REPRESENTATIONS.keys()

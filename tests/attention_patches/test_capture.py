"""What is kept while a picture is inverted."""

import pytest
import torch
from magicstyle.attention_patches.capture import TrajectoryRecorder
from magicstyle.attention_patches.model_call import ModelCall
from magicstyle.core.features import FeatureHeader, ModelId
from magicstyle.core.noise_pair import NoisePair
from magicstyle.tests.core.oracle import randn

HEADER = FeatureHeader(ModelId("SD15", "x"), "ddim", (8.0, 2.0, 1.0), (1, 4, 3, 5), {})


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

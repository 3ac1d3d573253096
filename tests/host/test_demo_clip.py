"""The demo model's stand-in for a text encoder goes where a checkpoint's goes."""

import logging

import comfy.sd
import pytest
import torch
from magicstyle.core.errors import MagicStyleError
from magicstyle.nodes.attention_look import PromptTokens
from magicstyle.nodes.demo_model import DemoModel

import nodes as host_nodes


@pytest.fixture(scope="module")
def demo():
    model, _, conditioning, *_, clip = DemoModel.execute().args
    return model, conditioning, clip


def test_every_text_becomes_the_prompt_that_the_model_knows(demo):
    _, ((features, _),), clip = demo
    for text in ("", "a portrait"):
        (((encoded, facts),),) = host_nodes.CLIPTextEncode().encode(clip, text)
        assert torch.equal(encoded, features) and facts == {}
    assert clip.encode_from_tokens(clip.tokenize(""), return_pooled=True)[0] is features
    assert clip.encode_from_tokens(clip.tokenize(""), return_dict=True)["cond"] is features


def test_what_a_node_adds_to_a_prompt_is_kept(demo):
    (_, facts) = demo[2].encode_from_tokens_scheduled({}, add_dict={"guidance": 1.0})[0]
    assert facts == {"guidance": 1.0} and demo[1][0][1] == {}


def test_a_text_that_changes_nothing_is_said(demo, caplog):
    with caplog.at_level(logging.WARNING, "magicstyle"):
        demo[2].tokenize("  ")
        assert caplog.messages == []
        demo[2].tokenize("in oil")
    (message,) = caplog.messages
    assert "knows the empty prompt alone: 'in oil' changes nothing" in message


def test_words_are_refused_where_they_are_looked_for(demo):
    with pytest.raises(MagicStyleError, match="knows no words.*load a checkpoint"):
        PromptTokens(demo[2], "hair, face", ["hair", "face"])


def test_a_lora_and_a_shorter_text_encoder_pass_it_on(demo):
    model, _, clip = demo
    patched, same = comfy.sd.load_lora_for_models(model, clip, {}, 1.0, 1.0)
    (shorter,) = host_nodes.CLIPSetLastLayer().set_last_layer(same, -2)
    assert patched is not model
    assert isinstance(shorter, comfy.sd.CLIP) and shorter.encode_from_tokens_scheduled({})[0][1] == {}


def test_the_transformers_prompt_keeps_its_mask():
    *_, clip = DemoModel.execute("transformer").args
    ((_, facts),) = clip.encode_from_tokens_scheduled(clip.tokenize(""))
    assert facts["attention_mask"].all()

import pytest
from magicstyle.attention_patches.architectures import BLOCKS
from magicstyle.core.errors import MagicStyleError
from magicstyle.core.layers import LayerId, legal_range, misnamed, select_layers

SD15 = (
    *(LayerId("input", n, 0) for n in (1, 2, 4, 5, 7, 8)),
    LayerId("middle", 0, 0),
    *(LayerId("output", n, 0) for n in range(3, 12)),
)
SDXL = tuple(LayerId("output", n, i) for n in range(6) for i in range(10 if n < 3 else 2))


def names(text, available=SD15):
    return [str(layer) for layer in select_layers(text, available)]


@pytest.mark.parametrize(
    "text, expected",
    [
        ("output.3", ["output.3.0"]),
        ("output.9-11", ["output.9.0", "output.10.0", "output.11.0"]),
        ("output.11,middle", ["middle.0.0", "output.11.0"]),
        (" Output.11 ,  MIDDLE.0 ", ["middle.0.0", "output.11.0"]),
        ("input.1-4", ["input.1.0", "input.2.0", "input.4.0"]),
        ("output.10-99", ["output.10.0", "output.11.0"]),
        ("output.11, output.11", ["output.11.0"]),
    ],
)
def test_text_selects_layers_in_model_order(text, expected):
    assert names(text) == expected


def test_all_and_whole_blocks_select_everything_they_name():
    assert select_layers("all", SD15) == SD15
    assert select_layers("input, middle, output", SD15) == SD15


def test_an_index_picks_one_transformer_inside_a_block():
    assert names("output.3.1", SDXL) == ["output.3.1"]
    assert len(names("output.0-2", SDXL)) == 30


@pytest.mark.parametrize(
    "text", ["", " , ", "decoder.3", "output.x", "output.0-2", "output.12", "output.3.7", "output.9-6", "3-11", "-1"]
)
def test_bad_text_is_refused_with_the_token_and_the_legal_range(text):
    with pytest.raises(MagicStyleError, match=r"input\.1-2, input\.4-5, input\.7-8, middle\.0, output\.3-11") as error:
        select_layers(text, SD15)
    assert not text.strip(" ,") or f"'{text}'" in str(error.value)


@pytest.mark.parametrize(
    "available, example",
    [(SD15, "output.6-11"), (SDXL, "output.0-5"), (SD15[1:9], "output.3-4"), ((*SD15[:6], *SD15[7:]), "output.3-11")],
)
def test_an_empty_text_is_refused_with_an_example_that_the_model_has(available, example):
    with pytest.raises(MagicStyleError, match=rf"layers is empty: name some, for example {example}; this model has"):
        select_layers(" , ", available)
    select_layers(example, available)


def test_names_round_trip():
    assert [LayerId.parse(str(layer)) for layer in SDXL] == list(SDXL)
    assert legal_range(SDXL) == "output.0-5"


DOUBLE = (*(LayerId("double", n, 0) for n in range(19)), *(LayerId("single", n, 0) for n in range(38)))


def test_blocks_are_those_of_the_model_in_its_order():
    assert legal_range(DOUBLE) == "double.0-18, single.0-37"
    assert legal_range(reversed(DOUBLE)) == "single.0-37, double.0-18"
    assert names("single.36-40, double.0", DOUBLE) == ["double.0.0", "single.36.0", "single.37.0"]


@pytest.mark.parametrize("text, available", [("output.3", DOUBLE), ("double.3", SD15), ("middle", SDXL)])
def test_a_block_of_another_kind_of_model_is_no_layer_of_this_one(text, available):
    with pytest.raises(MagicStyleError, match="is not a layer; write a block and its numbers, such as") as error:
        select_layers(text, available)
    suggested = str(error.value).split("such as ")[1].split(" or all")[0]
    assert select_layers(suggested, available)


FLUX = (*(LayerId("double", n, 0) for n in range(19)), *(LayerId("single", n, 0) for n in range(38)))


@pytest.mark.parametrize(
    "text, count", [("single", 38), ("double.0-18, single.0-37", 57), ("single.20-37", 18), ("double.3", 1)]
)
def test_the_language_names_a_transformers_stacks(text, count):
    assert len(select_layers(text, FLUX)) == count
    assert legal_range(FLUX) == "double.0-18, single.0-37"


@pytest.mark.parametrize(
    "text", ["all", "output.3-11", "Output.6-11, middle", "output.3.1", "double.0-18, single", "output.30"]
)
def test_what_may_name_a_layer_of_some_model_passes_before_there_is_one(text):
    assert misnamed(text, BLOCKS) is None


@pytest.mark.parametrize(
    "text, part",
    [
        ("outputs.6", "outputs.6"),
        ("output.6-11, midle", "midle"),
        ("output.11-6", "output.11-6"),
        ("6-11", "6-11"),
        ("", ""),
        (" , ", " , "),
    ],
)
def test_what_names_no_layer_of_any_model_is_found(text, part):
    assert misnamed(text, BLOCKS) == part


def test_blocks_are_those_of_unets_and_the_stacks_of_transformers():
    assert set(BLOCKS) == {"input", "middle", "output", "double", "single"}

"""The schema of bank files at its edges, on facts and types alone: nothing is written."""

import copy

import pytest
from magicstyle.banks import bank_header
from magicstyle.banks.bank_header import PictureFacts, describe
from magicstyle.banks.inventory import BadHeaderError, TensorKind
from magicstyle.tests.core.test_bank_file import trajectory


def facts(styles=1, content=0):
    picture = trajectory()
    return {
        "content": content,
        "styles": [{"picture": 0, "weight": 1.0} for _ in range(styles)],
        "pictures": [describe(PictureFacts(picture.representation, picture.header))],
    }


def inventory(**masks):
    stored = {f"0.{name}": TensorKind("F16", tuple(tensor.shape)) for name, tensor in trajectory().tensors.items()}
    return stored | {name.replace("_", ".", 1): TensorKind("F32", shape) for name, shape in masks.items()}


def check(given, kinds):
    """The header, with a checksum of each tensor unless it has some."""
    return bank_header.check_header({"checksums": dict.fromkeys(kinds, 1)} | given, kinds)


def with_batch(count, given, kinds):
    """The same with so many pictures in one latent."""
    given = copy.deepcopy(given)
    given["pictures"][0]["latent_shape"][0] = count
    shapes = {name: list(kind.shape) for name, kind in kinds.items()}
    for name, shape in shapes.items():
        if name.startswith("0."):
            shape[1 if name == "0.latents" else 0] = count
    return given, {name: TensorKind(kinds[name].dtype, tuple(shape)) for name, shape in shapes.items()}


def with_layers(count):
    given = facts()
    grid = next(iter(given["pictures"][0]["grids"].values()))
    names = [f"output.{i}.0" for i in range(count)]
    given["pictures"][0]["grids"] = dict.fromkeys(names, grid)
    given["pictures"][0]["heads"] = dict.fromkeys(names, 2)
    return given, inventory()


def with_steps(count):
    given, kinds = facts(), inventory()
    given["pictures"][0]["sigmas"] = [float(count - i) for i in range(count)]
    kinds["0.latents"] = TensorKind("F16", (count, *kinds["0.latents"].shape[1:]))
    return given, kinds


def with_styles(count):
    return facts(styles=count), inventory()


def with_pictures(count):
    """A style for each picture but the content's."""
    given, kinds = facts(), inventory()
    given["pictures"] *= count
    given["styles"] = [{"picture": place, "weight": 1.0} for place in range(1, count)]
    own = {name.removeprefix("0."): kind for name, kind in kinds.items()}
    return given, {f"{place}.{name}": kind for place in range(count) for name, kind in own.items()}


def with_frames(count):
    given, kinds = facts(), inventory()
    given["pictures"][0]["latent_shape"].insert(2, count)
    for name in ("0.latents", "0.noise"):
        shape = list(kinds[name].shape)
        shape.insert(-2, count)
        kinds[name] = TensorKind("F16", tuple(shape))
    return given, kinds


LIMITS = {
    "layers": (with_layers, 1_000),
    "steps": (with_steps, 10_000),
    "styles": (with_styles, 1_000),
    "pictures": (with_pictures, 1_001),
    "pictures of a latent": (lambda count: with_batch(count, facts(), inventory()), 4_096),
    "frames": (with_frames, 1),
}


@pytest.mark.parametrize("name", LIMITS)
def test_as_much_as_a_header_may_hold_passes_and_one_more_is_refused(name):
    make, most = LIMITS[name]
    check(*make(most))
    with pytest.raises(BadHeaderError):
        check(*make(most + 1))


def test_a_checksum_is_of_32_bits():
    kinds = inventory()
    for number, fits in ((0, True), (2**32 - 1, True), (2**32, False), (-1, False), (1.0, False)):
        given = facts() | {"checksums": dict.fromkeys(kinds, number)}
        if fits:
            assert set(check(given, kinds).checksums.values()) == {number}
        else:
            with pytest.raises(BadHeaderError, match="checksums"):
                check(given, kinds)


@pytest.mark.parametrize("name", ["more", "fewer"])
def test_checksums_are_of_the_tensors_that_there_are(name):
    sums = dict.fromkeys(inventory(), 1)
    sums |= {"0.other": 1} if name == "more" else {}
    if name == "fewer":
        del sums["0.noise"]
    with pytest.raises(BadHeaderError, match="checksums"):
        check(facts() | {"checksums": sums}, inventory())


@pytest.mark.parametrize("rows, fits", [(1, True), (2, False), (3, True), (4, False)])
def test_a_mask_beside_a_content_is_one_for_all_of_its_pictures_or_one_for_each(rows, fits):
    given, kinds = with_batch(3, facts(), inventory(style0_region=(rows, 2, 4)))
    if fits:
        check(given, kinds)
    else:
        with pytest.raises(BadHeaderError, match="style0.region"):
            check(given, kinds)


@pytest.mark.parametrize("rows, fits", [(1, True), (2, True), (bank_header.MAX_BATCH, True), (4_097, False)])
def test_a_mask_that_waits_for_its_content_may_have_as_many_rows_as_a_latent_has_pictures(rows, fits):
    given, kinds = facts(content=None), inventory(style0_style_mask=(rows, 2, 4))
    if fits:
        check(given, kinds)
    else:
        with pytest.raises(BadHeaderError, match="style0.style_mask"):
            check(given, kinds)


@pytest.mark.parametrize("side, fits", [(65_536, True), (65_537, False)])
def test_a_mask_has_at_most_as_many_pixels_a_side_as_a_latent(side, fits):
    kinds = inventory(style0_region=(1, 1, side))
    if fits:
        check(facts(), kinds)
    else:
        with pytest.raises(BadHeaderError, match="style0.region"):
            check(facts(), kinds)

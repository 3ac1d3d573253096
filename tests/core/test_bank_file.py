import json
import pickle
import struct
import zlib
from dataclasses import replace

import pytest
import torch
from magicstyle.banks import bank_file
from magicstyle.banks.bank import FeatureBank, StyleEntry
from magicstyle.banks.bank_file import load_bank, save_bank, sealed, with_checksums
from magicstyle.banks.image_features import FeatureHeader
from magicstyle.banks.placement import OnDisk
from magicstyle.banks.trajectory import Trajectory, constants_of, unkept
from magicstyle.core.errors import MagicStyleError
from magicstyle.core.features import ModelId
from magicstyle.core.noise_pair import NoisePair
from magicstyle.tests.core import test_features
from magicstyle.tests.core.test_features import GRIDS, HEADS, LAYERS, SIGMAS
from safetensors import safe_open
from safetensors.torch import save_file


def features(**chosen):
    """With the noise of their inversion, as every file has it."""
    kept = test_features.features(**chosen)
    return kept.of_tensors(kept.header, kept.tensors, NoisePair(torch.full((1, 4, 6, 10), 0.5)))


def trajectory(seed=0):
    header = FeatureHeader(ModelId.of("SD15", dict.fromkeys(LAYERS, 8)), "ddim", SIGMAS, (1, 4, 6, 10), GRIDS, HEADS)
    latents = torch.randn(5, 1, 4, 6, 10, generator=torch.Generator().manual_seed(seed)).half()
    return Trajectory(
        header, latents, {"c_crossattn": torch.ones(1, 7, 8), "y": torch.ones(1, 3)}, NoisePair(latents[0])
    )


def bank(content=None, **style):
    return FeatureBank(content or features(), (StyleEntry(trajectory(), 0.5, **style),))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "folder" / "style.safetensors"


def same(a, b):
    assert a.header == b.header and a.representation == b.representation
    assert a.tensors.keys() == b.tensors.keys()
    assert all(torch.equal(a.tensors[name], b.tensors[name]) for name in a.tensors)
    assert all(a.tensors[name].dtype == b.tensors[name].dtype for name in a.tensors)


def test_a_bank_round_trips_with_its_masks_and_weights(path):
    original = bank(region=torch.rand(1, 6, 7), style_mask=torch.rand(1, 3, 4)).with_style(StyleEntry(features(), 3.0))
    save_bank(original, path)
    loaded = load_bank(path)
    same(loaded.content, original.content)
    for ours, theirs in zip(loaded.styles, original.styles, strict=True):
        same(ours.features, theirs.features)
        assert ours.weight == theirs.weight
    assert torch.equal(loaded.styles[0].region, original.styles[0].region)
    assert torch.equal(loaded.styles[0].style_mask, original.styles[0].style_mask)
    assert loaded.styles[1].region is None


def grouped(picture, every):
    """The same picture, keeping one level of every group."""
    header = replace(picture.header, every=every)
    whole = {name: t for name, t in picture.tensors.items() if name.startswith(("noise", "inputs."))}
    kept = {name: t[list(header.groups.kept)] for name, t in picture.tensors.items() if name not in whole}
    return type(picture).of_tensors(header, kept | whole, picture.noise_pair)


def test_a_bank_of_every_third_level_says_so_in_its_header(path):
    content, style = grouped(features(), 3), grouped(trajectory(), 2)
    save_bank(FeatureBank(content, (StyleEntry(style),)), path)
    loaded = load_bank(path)
    same(loaded.content, content)
    same(loaded.styles[0].features, style)
    assert [picture.header.groups.count for picture in loaded] == [2, 3]
    said = []
    rewritten(path, lambda header, tensors: said.extend(facts.pop("every") for facts in header["pictures"]))
    assert said == [3, 2]


@pytest.mark.parametrize(
    "name, told",
    [("every", "every"), ("inputs", "inputs"), ("depth", "depth"), ("heads", "heads"), ("noise", "no noise")],
)
def test_a_file_that_leaves_something_out_is_refused_by_its_name(path, name, told):
    save_bank(bank(), path)
    rewritten(path, lambda header, tensors: (header["pictures"][0].pop(name, 0), tensors.pop(f"0.{name}", 0)))
    with pytest.raises(MagicStyleError, match=rf"damaged or no MagicStyle bank \(bad {told}\)"):
        load_bank(path)


def test_every_input_of_a_model_comes_back(path):
    """Inpainting has a picture beside the latent, SDXL a pooled vector, some ControlNets a prompt of their own."""
    plain = trajectory()
    inputs = {
        "c_crossattn": torch.ones(1, 7, 8),
        "c_concat": torch.ones(1, 5, 6, 10),
        "y": torch.ones(1, 3),
        "crossattn_controlnet": torch.ones(1, 9, 8),
        "attention_mask": torch.ones(1, 7, dtype=torch.int64),
        "ref_latents": [torch.ones(1, 4, 3, 5), torch.ones(1, 4, 2, 2)],
        "ref_contexts": [torch.ones(1, tokens, 8) for tokens in (3, 5)],
        "siglip_feats": [torch.ones(1, 2, 3, 6)],
        "num_tokens": 7.0,
    }
    header = replace(plain.header, constants=constants_of(inputs))
    whole = Trajectory(header, plain.latents, inputs, plain.noise_pair)
    assert not unkept(inputs)
    save_bank(FeatureBank(whole, (StyleEntry(whole),)), path)
    loaded = load_bank(path).content
    same(loaded, whole)
    assert loaded.inputs.keys() == inputs.keys() and len(loaded.inputs["ref_contexts"]) == 2


def test_styles_alone_are_a_bank_without_a_portrait_or_with_a_given_one(path):
    save_bank(bank(), path, content=False)
    assert load_bank(path).content is None
    same(load_bank(path).pictures[0], trajectory())
    content = features()
    loaded = load_bank(path, content)
    assert loaded.content is content
    same(loaded.styles[0].features, trajectory())


def test_a_given_content_takes_the_place_of_the_stored_one_and_must_fit(path):
    save_bank(bank(), path)
    content = features()
    assert load_bank(path, content).content is content
    with pytest.raises(
        MagicStyleError, match=r"Style 1 was inverted with another model \(SD15\) than the content \(SDXL\)"
    ):
        load_bank(path, features(model="SDXL"))


def test_a_picture_that_serves_twice_is_stored_once(path):
    picture = features()
    save_bank(FeatureBank(picture, (StyleEntry(picture), StyleEntry(picture, 2.0))), path)
    with safe_open(str(path), "pt") as file:
        assert len(file.keys()) == len(picture.tensors)
    loaded = load_bank(path)
    assert loaded.content is loaded.styles[0].features is loaded.styles[1].features


def test_a_trajectory_of_sd15_at_50_steps_is_under_two_megabytes(path):
    header = replace(trajectory().header, sigmas=tuple(range(50, 0, -1)), latent_shape=(1, 4, 48, 80))
    latents, text = torch.zeros(50, 1, 4, 48, 80).half(), torch.zeros(1, 77, 768).half()
    style = Trajectory(header, latents, {"c_crossattn": text}, NoisePair(latents[0]))
    save_bank(FeatureBank(style, (StyleEntry(style),)), path, content=False)
    assert path.stat().st_size < 2_000_000


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_save_that_fails_leaves_neither_half_a_file_nor_the_old_one_changed(path, monkeypatch, error):
    save_bank(bank(), path)
    before = path.read_bytes()

    def broken(file, tensors, metadata):
        file.write(b"half")
        raise error

    monkeypatch.setattr(bank_file, "write_tensors", broken)
    with pytest.raises((MagicStyleError, KeyboardInterrupt)) as caught:
        save_bank(bank(), path)
    assert path.read_bytes() == before and [p.name for p in path.parent.iterdir()] == [path.name]
    assert isinstance(error, KeyboardInterrupt) or "Free some disk space" in str(caught.value)


def test_a_disk_that_is_full_is_told_in_one_sentence_and_keeps_nothing(path):
    """A process that may write 4 KiB to a file meets the same short write as one on a full disk."""
    resource = pytest.importorskip("resource", reason="no limits for files on this system")
    path.parent.mkdir()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with pytest.raises(MagicStyleError) as caught:
            save_bank(bank(), path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert str(caught.value).startswith(f"The bank could not be saved as {path}: ")
    assert str(caught.value).endswith("Free some disk space.") and "\n" not in str(caught.value)
    assert list(path.parent.iterdir()) == []


def test_a_saved_bank_can_be_read_by_whom_the_umask_lets(path):
    save_bank(bank(), path)
    beside = path.with_name("beside.txt")
    beside.write_text("an ordinary file")
    assert path.stat().st_mode == beside.stat().st_mode


def test_a_folder_that_cannot_be_made_is_told_as_such(path):
    path.parent.write_text("a file where the folder should be")
    with pytest.raises(MagicStyleError, match="The bank could not be saved as .*File exists. Choose another folder"):
        save_bank(bank(), path)


def test_tensors_that_share_memory_or_lie_on_disk_are_saved_like_any_other(path, tmp_path):
    mask, picture = torch.rand(1, 4, 4), features(allocate=OnDisk(tmp_path / "place"))
    save_bank(FeatureBank(picture, (StyleEntry(picture, 1.0, mask, mask), StyleEntry(picture, 2.0, mask[:, 1:]))), path)
    loaded = load_bank(path)
    same(loaded.content, picture)
    assert torch.equal(loaded.styles[0].style_mask, mask) and torch.equal(loaded.styles[1].region, mask[:, 1:])


# --- hostile files -------------------------------------------------------------------------------------------------


def rewritten(path, change):
    """The saved bank with its header or its tensors changed, and with checksums that fit: as a malicious hand would."""
    with safe_open(str(path), "pt") as file:
        tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
        header = json.loads(file.metadata()["magicstyle"])
    del header["checksums"]
    change(header, tensors)
    whole = {name: t.contiguous() for name, t in tensors.items()}
    save_file(whole, str(path), sealed(with_checksums(header, whole)))


def set_in(*keys, value):
    def change(header, tensors):
        inner = header
        for key in keys[:-1]:
            inner = inner[key]
        inner[keys[-1]] = value

    return change


CHANGES = {
    "future version": (set_in("version", value=2), "has version 2 of the bank format and this pack reads version 1"),
    "no pictures": (set_in("pictures", value=[]), "damaged"),
    "styles of nothing": (set_in("styles", value=[{"picture": 9, "weight": 1}]), "damaged"),
    "negative place": (set_in("styles", value=[{"picture": -1, "weight": 1}]), "damaged"),
    "infinite weight": (set_in("styles", value=[{"picture": 0, "weight": 1e999}]), "damaged"),
    "sigmas of zero": (set_in("pictures", 0, "sigmas", value=[1.0, 0.0]), "damaged"),
    "rising sigmas": (set_in("pictures", 0, "sigmas", value=[1.0, 2.0, 3.0, 4.0, 5.0]), "damaged"),
    "sigmas of text": (set_in("pictures", 0, "sigmas", value="abc"), "damaged"),
    "a million sigmas": (set_in("pictures", 0, "sigmas", value=list(range(20000, 0, -1))), "damaged"),
    "other grid": (set_in("pictures", 0, "grids", "output.6.0", value=[4, 4]), "damaged"),
    "no layer": (set_in("pictures", 0, "grids", value={}), "damaged"),
    "odd layer": (set_in("pictures", 0, "grids", value={"../../x": [1, 1]}), "damaged"),
    "other latent": (set_in("pictures", 1, "latent_shape", value=[1, 4, 8, 8]), "damaged"),
    "huge latent": (set_in("pictures", 1, "latent_shape", value=[1, 4, 2**40, 2**40]), "damaged"),
    "representation": (set_in("pictures", 1, "representation", value="code"), "damaged"),
    "not a list": (set_in("styles", value=7), "damaged"),
    "nan": (lambda h, t: t["1.latents"].fill_(float("nan")), "bad values in 1.latents: NaN or infinite"),
    "integers": (lambda h, t: t.update({"1.latents": t["1.latents"].int()}), "bad type of latents"),
    "other noise": (lambda h, t: t.update({"1.noise": torch.zeros(1, 4, 2, 2)}), "damaged"),
    "version of truth": (set_in("version", value=True), "has version True of the bank format"),
    "infinite sigma": (set_in("pictures", 0, "sigmas", value=[1e999, 5.0, 2.0, 0.5, 0.05]), "bad text of the header"),
    "sigma beyond numbers": (set_in("pictures", 0, "sigmas", value=[10**400, 5.0, 2.0, 0.5, 0.05]), "bad sigmas"),
    "text of digits as sigmas": (set_in("pictures", 0, "sigmas", value="54321"), "bad sigmas"),
    "content before the first": (set_in("content", value=-1), "bad number of the content's picture"),
    "true content": (set_in("content", value=True), "bad number of the content's picture"),
    "nine tenths of a picture": (set_in("styles", 0, "picture", value=0.9), "bad style's picture"),
    "true picture": (set_in("styles", 0, "picture", value=True), "bad style's picture"),
    "picture that nobody names": (set_in("styles", 0, "picture", value=0), "bad number of pictures"),
    "weight beyond use": (set_in("styles", 0, "weight", value=1e300), "bad weight"),
    "weight of text": (set_in("styles", 0, "weight", value="1"), "bad weight"),
    "grid of text": (set_in("pictures", 0, "grids", "output.6.0", value="35"), "bad grids"),
    "grid on its side": (set_in("pictures", 0, "grids", "output.6.0", value=[5, 3]), "bad grids"),
    "grid finer than the latent": (set_in("pictures", 1, "grids", "output.6.0", value=[3000, 3000]), "bad grids"),
    "grid in batches": (set_in("pictures", 1, "latent_shape", value=[1, 4, True, 10]), "bad latent shape"),
    "block of another house": (set_in("pictures", 0, "grids", value={"foo.1.2": [3, 5]}), "bad heads"),
    "block before the first": (set_in("pictures", 0, "grids", value={"output.-1.0": [3, 5]}), "bad grids"),
    "heads missing": (set_in("pictures", 0, "heads", value={"output.6.0": 2}), "bad heads"),
    "heads that do not divide": (set_in("pictures", 0, "heads", "output.6.0", value=3), "bad output.6.0.q"),
    "heads of two models": (
        set_in("pictures", 1, "heads", "output.6.0", value=4),
        "bad heads of output.6.0 of picture 1",
    ),
    "no digest": (set_in("pictures", 0, "model", value=["SD15", "none"]), "bad model"),
    "name over lines": (set_in("pictures", 0, "model", 0, value="SD15\n\nrun this"), "bad model"),
    "method of lines": (set_in("pictures", 0, "method", value="ddim\n"), "bad method"),
    "representation in a list": (set_in("pictures", 0, "representation", value=["features"]), "bad representation"),
    "every none of them": (set_in("pictures", 0, "every", value=0), "bad every"),
    "every half of them": (set_in("pictures", 0, "every", value=2.0), "bad every"),
    "every truth": (set_in("pictures", 0, "every", value=True), "bad every"),
    "every beyond use": (set_in("pictures", 1, "every", value=10**9), "bad every"),
    "fewer levels than there are": (set_in("pictures", 0, "every", value=2), "bad shape of output.6.0.q"),
    "fewer latents than there are": (set_in("pictures", 1, "every", value=2), "bad shape of latents"),
    "no queries in one layer": (lambda h, t: t.pop("0.output.6.0.q"), "bad queries, keys and values"),
    "keys narrower": (lambda h, t: t.update({"0.output.6.0.k": t["0.output.6.0.k"][..., :4]}), "bad output.6.0.k"),
    "keys of another type": (
        lambda h, t: t.update({"0.output.6.0.k": t["0.output.6.0.k"].float()}),
        "bad queries, keys and values",
    ),
    "no prompt": (lambda h, t: t.pop("1.inputs.c_crossattn"), "bad inputs"),
    "prompt of two axes": (lambda h, t: t.update({"1.inputs.c_crossattn": torch.ones(1, 8)}), "bad input c_crossattn"),
    "prompt of two pictures": (
        lambda h, t: t.update({"1.inputs.c_crossattn": torch.ones(2, 7, 8)}),
        "bad input c_crossattn",
    ),
    "input named like an argument": (lambda h, t: t.update({"1.inputs.t": torch.ones(1, 8)}), "bad input 't'"),
    "input of lines": (lambda h, t: t.update({"1.inputs.a\nb": torch.ones(1, 8)}), "bad input 'a"),
    "tensor of nobody": (lambda h, t: t.update({"2.latents": torch.ones(1)}), "bad tensor '2.latents'"),
    "companion alone": (lambda h, t: t.update({"0.companion": t.pop("0.noise")}), "bad no noise"),
    "companion of another type": (
        lambda h, t: t.update({"0.companion": torch.zeros(1, 4, 6, 10, dtype=torch.float64)}),
        "bad type of companion",
    ),
    "region above 1": (lambda h, t: t["style0.region"].add_(1.0), "bad values in style0.region: not from 0 to 1"),
    "region below 0": (lambda h, t: t["style0.region"].sub_(1.5), "bad values in style0.region: not from 0 to 1"),
    "region of no size": (lambda h, t: t.update({"style0.region": torch.ones(1, 0, 4)}), "bad style0.region"),
    "region of three pictures": (lambda h, t: t.update({"style0.region": torch.ones(3, 2, 4)}), "bad style0.region"),
    "region in eight bits": (
        lambda h, t: t.update({"style0.region": torch.ones(1, 2, 4).to(torch.float8_e4m3fn)}),
        "bad style0.region",
    ),
    "black style mask": (
        lambda h, t: t.update({"style0.style_mask": torch.zeros(1, 2, 4)}),
        "style_mask is black everywhere",
    ),
    "missing tensor": (lambda h, t: t.pop("1.latents"), "damaged"),
    "missing layer": (lambda h, t: [t.pop(f"0.output.6.0.{role}") for role in "qkv"], "damaged"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_file_that_lies_is_refused_in_one_sentence(path, name):
    change, message = CHANGES[name]
    save_bank(bank(region=torch.full((1, 2, 4), 0.5)), path)
    rewritten(path, change)
    with pytest.raises(MagicStyleError, match=message) as error:
        load_bank(path)
    assert "\n" not in str(error.value) and (path.name in str(error.value) or name == "black style mask")


def test_a_header_that_is_nested_without_end_is_refused(path):
    save_bank(bank(), path)
    rewritten(path, lambda header, tensors: None)
    with safe_open(str(path), "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    text = "[" * 100_000 + "]" * 100_000
    checksum = f"{zlib.crc32(text.encode()):08x}"
    save_file(tensors, str(path), {"magicstyle": text, "magicstyle_checksum": checksum})
    with pytest.raises(MagicStyleError, match="bad text of the header"):
        load_bank(path)


@pytest.mark.parametrize("of", ["checksum of the header", "checksums"])
def test_a_file_without_checksums_is_refused(path, of):
    save_bank(bank(), path)
    with safe_open(str(path), "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        metadata = file.metadata()
    header = json.loads(metadata["magicstyle"])
    del header["checksums"]
    left = {"magicstyle": metadata["magicstyle"]} if of == "checksum of the header" else sealed(header)
    save_file(tensors, str(path), left)
    with pytest.raises(MagicStyleError, match=rf"\(bad {of}\)"):
        load_bank(path)


@pytest.mark.parametrize("name", ["0.output.6.0.k", "0.output.9.0.v", "1.latents", "1.inputs.c_crossattn", "1.noise"])
def test_a_single_bit_that_has_turned_is_told_by_the_tensors_name(path, name):
    save_bank(bank(), path)
    content = bytearray(path.read_bytes())
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    begin, end = header[name]["data_offsets"]
    content[8 + int.from_bytes(content[:8], "little") + (begin + end) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(MagicStyleError, match=f"bad checksum of {name}"):
        load_bank(path)


def test_a_digit_that_has_changed_in_the_header_is_told(path):
    save_bank(bank(), path)
    content = path.read_bytes()
    assert content.count(b"0.05") == 2
    path.write_bytes(content.replace(b"0.05", b"0.06", 1))
    with pytest.raises(MagicStyleError, match="bad checksum of the header"):
        load_bank(path)


def test_what_could_not_be_loaded_is_not_saved(path):
    broken = trajectory()
    broken.latents[2, 0, 0, 0] = float("inf")
    with pytest.raises(MagicStyleError, match="could not be saved, since .*bad values in 1.latents: NaN or infinite"):
        save_bank(FeatureBank(features(), (StyleEntry(broken),)), path)
    assert not path.exists()


def test_a_bank_of_a_content_alone_comes_back(path):
    save_bank(FeatureBank(features(), ()), path)
    assert load_bank(path).styles == ()
    with pytest.raises(MagicStyleError, match="could not be saved"):
        save_bank(FeatureBank(features(), ()), path, content=False)


class Trap:
    def __reduce__(self):
        return pytest.fail, ("a pickle was executed",)


FILES = {
    "empty": b"",
    "text": b"hello, world",
    "pickle": pickle.dumps(Trap()),
    "header of absurd length": struct.pack("<Q", 2**62) + b"{}",
    "header of no length": struct.pack("<Q", 0),
    "header that is no json": struct.pack("<Q", 8) + b"not json",
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_something_else_is_refused(path, name):
    path.parent.mkdir()
    path.write_bytes(FILES[name])
    with pytest.raises(MagicStyleError, match="style.safetensors is damaged or no MagicStyle bank"):
        load_bank(path)


def test_a_header_is_read_up_to_its_greatest_length_and_not_beyond(path):
    path.parent.mkdir()
    for length, refused in ((bank_file.MAX_HEADER, False), (bank_file.MAX_HEADER + 1, True)):
        path.write_bytes(struct.pack("<Q", length) + b"{}")
        with pytest.raises(MagicStyleError) as caught:
            load_bank(path)
        assert ("bad length of the header" in str(caught.value)) is refused


@pytest.mark.parametrize("share", [0.1, 0.5, 0.999])
def test_a_truncated_file_is_refused(path, share):
    save_bank(bank(), path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(MagicStyleError, match="damaged"):
        load_bank(path)


def test_other_peoples_safetensors_and_missing_files_are_named(path):
    path.parent.mkdir()
    save_file({"weight": torch.zeros(2)}, str(path))
    with pytest.raises(MagicStyleError, match="style.safetensors is no MagicStyle bank: choose a file"):
        load_bank(path)
    path.unlink()
    with pytest.raises(MagicStyleError, match="style.safetensors is gone"):
        load_bank(path)


def test_a_file_that_the_system_does_not_let_us_read_is_told_with_the_systems_reason(path):
    path.mkdir(parents=True)
    with pytest.raises(MagicStyleError, match=r"style.safetensors cannot be read \(.+\): choose another bank"):
        load_bank(path)


def reversible(companion):
    plain = trajectory()
    header = replace(plain.header, method="exact")
    return Trajectory(header, plain.latents, plain.inputs, NoisePair(torch.ones(1, 4, 6, 10), companion))


def test_a_reversible_picture_keeps_its_method_and_both_ends_in_full_precision(path):
    save_bank(FeatureBank(features(), (StyleEntry(reversible(torch.full((1, 4, 6, 10), 1 / 3))),)), path)
    loaded = load_bank(path).styles[0].features
    assert loaded.header.method == "exact"
    assert (
        torch.equal(loaded.noise_pair.step_from, torch.full((1, 4, 6, 10), 1 / 3))
        and loaded.noise_pair.step_from.dtype == torch.float32
    )
    same(loaded, reversible(loaded.noise_pair.step_from))


def test_a_companion_of_another_shape_is_refused(path):
    with pytest.raises(MagicStyleError, match="could not be saved.*bad shape of companion"):
        save_bank(FeatureBank(features(), (StyleEntry(reversible(torch.ones(1, 4, 6, 11))),)), path)
    save_bank(FeatureBank(features(), (StyleEntry(reversible(torch.ones(1, 4, 6, 10))),)), path)
    rewritten(path, lambda header, tensors: tensors.update({"1.companion": torch.ones(1, 4, 6, 11)}))
    with pytest.raises(MagicStyleError, match="damaged or no MagicStyle bank.*companion"):
        load_bank(path)

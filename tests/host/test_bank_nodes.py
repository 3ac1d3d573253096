"""The nodes that save and load banks, called as the host calls them, without a server."""

import os

import folder_paths
import pytest
import torch
from comfy_api.latest import io
from magicstyle.banks.bank import FeatureBank, StyleEntry
from magicstyle.banks.bank_file import load_bank
from magicstyle.banks.trajectory import Trajectory
from magicstyle.core.errors import MagicStyleError
from magicstyle.core.noise_pair import NoisePair
from magicstyle.nodes.files import FOLDER, NOTHING, LoadFeatureBank, SaveFeatureBank, register_folder
from magicstyle.tests.core.test_bank_file import features, trajectory


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """The host's output and models folders, empty."""
    monkeypatch.setattr(folder_paths, "folder_names_and_paths", dict(folder_paths.folder_names_and_paths))
    monkeypatch.setattr(folder_paths, "filename_list_cache", {})
    folder_paths.folder_names_and_paths.pop(FOLDER, None)
    monkeypatch.setattr(folder_paths, "models_dir", str(tmp_path / "models"))
    monkeypatch.setattr(folder_paths, "output_directory", str(tmp_path / "output"))
    (tmp_path / "output").mkdir()
    register_folder()
    return tmp_path


def with_noise(seed):
    plain = trajectory(seed)
    return Trajectory(plain.header, plain.latents, plain.inputs, NoisePair(torch.full((1, 4, 6, 10), float(seed))))


def bank():
    return FeatureBank(features(), (StyleEntry(with_noise(1), 0.5), StyleEntry(with_noise(2))))


def save(prefix=f"{FOLDER}/style", contents="everything"):
    SaveFeatureBank.execute(bank(), prefix, contents)


def options():
    (combo,) = (entry for entry in LoadFeatureBank.define_schema().inputs if isinstance(entry, io.Combo.Input))
    return combo.options


def test_with_no_bank_saved_the_choice_says_so_and_running_it_says_what_to_do(folders):
    assert options() == [NOTHING]
    assert LoadFeatureBank.fingerprint_inputs(bank_name=NOTHING)
    for answer in (LoadFeatureBank.validate_inputs(bank_name=NOTHING), refusal(NOTHING)):
        assert "bank_name" in answer and "run Save Feature Bank first" in answer
    save()
    assert options() == ["style_00001_.safetensors"]


def refusal(name):
    with pytest.raises(MagicStyleError) as error:
        LoadFeatureBank.execute(name)
    return str(error.value)


@pytest.mark.parametrize("choice", [7, {}, [], True, 0.5, "", "gone.safetensors", "../x", "a\0b", "a\nb", "x" * 5000])
def test_what_is_no_listed_name_is_refused_before_anything_runs_without_a_traceback(folders, choice):
    save()
    answer = LoadFeatureBank.validate_inputs(bank_name=choice)
    assert answer is not True and answer.startswith("bank_name: ")
    assert answer.isprintable() and len(answer) < 400
    assert isinstance(LoadFeatureBank.fingerprint_inputs(bank_name=choice), str)
    assert refusal(choice).startswith("bank_name ")


def test_a_name_that_was_lost_is_one_sentence_when_it_runs(folders):
    assert LoadFeatureBank.validate_inputs() is True  # as a wire looks before the run
    assert LoadFeatureBank.fingerprint_inputs(bank_name=None) == "None"
    assert "is not in the magicstyle folders: refresh and choose again" in refusal(None)


def test_a_listed_file_is_valid_and_its_fingerprint_follows_its_content(folders):
    save()
    (name,) = options()
    assert LoadFeatureBank.validate_inputs(bank_name=name) is True
    before = LoadFeatureBank.fingerprint_inputs(bank_name=name, content=None)
    assert before == LoadFeatureBank.fingerprint_inputs(bank_name=name)
    path = folders / "output" / FOLDER / name
    stat = path.stat()
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1_000_000))
    assert LoadFeatureBank.fingerprint_inputs(bank_name=name) != before


@pytest.mark.parametrize("contents, kept", [("styles", False), ("everything", True)])
def test_contents_decides_whether_the_portrait_is_saved_too(folders, contents, kept):
    save(contents=contents)
    path = folders / "output" / FOLDER / "style_00001_.safetensors"
    content = features()
    assert load_bank(path, content).content is content
    if kept:
        assert load_bank(path).content.representation == "features"
    else:
        assert load_bank(path).content is None


def test_the_noise_that_is_handed_out_is_the_first_styles(folders):
    save()
    _, noise, summary = LoadFeatureBank.execute("style_00001_.safetensors").args
    assert torch.equal(noise["samples"], torch.full((1, 4, 6, 10), 1.0))
    assert "weight 0.5" in summary


def test_a_bank_without_a_style_hands_out_no_noise(folders):
    SaveFeatureBank.execute(FeatureBank(features(), ()), f"{FOLDER}/alone", "everything")
    assert LoadFeatureBank.execute("alone_00001_.safetensors").args[1] is None


@pytest.mark.parametrize("prefix", ["", ".", "..", "/", ".hidden", "magicstyle/.x", "a\0b", "a\nb", "magicstyle/.."])
def test_a_prefix_that_names_no_visible_file_is_refused(folders, prefix):
    with pytest.raises(MagicStyleError, match="filename_prefix") as error:
        save(prefix)
    assert str(error.value).isprintable()
    assert not list(folders.rglob("*.safetensors"))


def test_a_prefix_below_a_file_is_refused_in_one_sentence(folders):
    (folders / "output" / "taken").write_text("a file")
    with pytest.raises(MagicStyleError, match="filename_prefix 'taken/style' is no place to save to"):
        save("taken/style")


def test_saving_again_takes_the_next_number(folders):
    save()
    save()
    assert options() == ["style_00001_.safetensors", "style_00002_.safetensors"]


def test_the_hosts_caches_are_told_the_main_memory_that_a_bank_takes(folders):
    picture = features()
    value = FeatureBank(picture, (StyleEntry(picture),))
    for kept in (picture, value):
        assert kept.get_ram_usage() == picture.nbytes == sum(tensor.nbytes for tensor in kept._comfy_cache_tensors())

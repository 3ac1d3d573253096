"""Save and Load Feature Bank: safetensors files under the host's output and models folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import folder_paths
from comfy_api.latest import io
from torch import Tensor

from ..banks.atomic import clear_litter
from ..banks.bank import FeatureBank
from ..banks.bank_file import load_bank, save_bank
from ..banks.image_features import ImageFeatures
from ..core.errors import MagicStyleError, one_line
from .bank import summarized
from .inversion.latent_pair import Latent, noise_latent
from .schema import check_choices, search_aliases
from .sockets import CATEGORY, Bank, Features

FOLDER = "magicstyle"
SUFFIX = ".safetensors"
CONTENTS = ["styles", "everything"]
NOTHING = "no bank is saved yet"  # an empty list of choices shows as "undefined"


def register_folder() -> None:
    """Let the host look for banks under models/magicstyle and output/magicstyle."""
    places = (Path(folder_paths.models_dir) / FOLDER, Path(folder_paths.get_output_directory()) / FOLDER)
    for place in places:
        folder_paths.add_model_folder_path(FOLDER, str(place))
    folder_paths.folder_names_and_paths[FOLDER][1].add(SUFFIX)


def saved_banks() -> list[str]:
    """The files that the host lists, or one line in their place."""
    return folder_paths.get_filename_list(FOLDER) or [NOTHING]


def next_path(prefix: str) -> Path:
    """The next free file of a prefix under the output folder."""
    output = Path(folder_paths.get_output_directory()).resolve()
    name = Path(prefix).name
    if not name or name.startswith(".") or not prefix.isprintable():
        raise MagicStyleError(
            f"filename_prefix {prefix!r} gives the file no visible name: write one, for example {FOLDER}/style."
        )
    if not (output / prefix).resolve().is_relative_to(output):
        raise MagicStyleError(f"filename_prefix '{prefix}' leaves the output folder: choose a name inside it.")
    try:
        folder, name, counter, _, _ = folder_paths.get_save_image_path(prefix, str(output))
    except OSError as error:
        raise MagicStyleError(
            f"filename_prefix '{prefix}' is no place to save to ({error.strerror}): choose another folder."
        ) from error
    return Path(folder) / f"{name}_{counter:05}_{SUFFIX}"


def path_of(bank_name: Any) -> Path | None:
    """The file of a listed name; None where there is none, whatever the name is."""
    if not isinstance(bank_name, str) or "\0" in bank_name:
        return None
    path = folder_paths.get_full_path(FOLDER, bank_name)
    return None if path is None else Path(path)


class SaveFeatureBank(io.ComfyNode):
    """Writes a bank to the output folder."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """The node as users see it."""
        return io.Schema(
            node_id="MagicStyleSaveFeatureBank",
            display_name="Save Feature Bank",
            category=CATEGORY,
            **search_aliases("MagicStyleSaveFeatureBank"),
            description="Saves a bank to the output folder, as safetensors: invert a style once, use it for every "
            "portrait. Banks of latents are small, banks of features can take gigabytes.",
            inputs=[
                Bank.Input("bank", tooltip="The bank to save."),
                io.String.Input(
                    "filename_prefix",
                    default=f"{FOLDER}/style",
                    tooltip="Folder and name under the output folder; a number is added. Load Feature Bank lists what "
                    "lies in the magicstyle folder.",
                ),
                io.Combo.Input(
                    "contents",
                    options=CONTENTS,
                    default="styles",
                    tooltip="styles: to use with other portraits. everything: the portrait's features too.",
                ),
            ],
            outputs=[Bank.Output(display_name="bank", tooltip="The same bank.")],
            is_output_node=True,
        )

    @classmethod
    def validate_inputs(cls, contents: str | None = None) -> bool | str:
        """Name a choice that is gone."""
        return check_choices(contents=(contents, CONTENTS))

    @classmethod
    def execute(cls, bank: FeatureBank, filename_prefix: str, contents: str) -> io.NodeOutput:
        """Save under the next free number."""
        path = next_path(filename_prefix)
        clear_litter(path.parent)
        save_bank(bank, path, content=contents == "everything")
        return io.NodeOutput(bank, ui={"text": [f"saved {path.name}"]})


class LoadFeatureBank(io.ComfyNode):
    """Reads a bank from a file."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """The node as users see it."""
        return io.Schema(
            node_id="MagicStyleLoadFeatureBank",
            display_name="Load Feature Bank",
            category=CATEGORY,
            **search_aliases("MagicStyleLoadFeatureBank"),
            description="Loads a saved bank from output/magicstyle or models/magicstyle.",
            inputs=[
                io.Combo.Input(
                    "bank_name",
                    options=saved_banks(),
                    tooltip="A file that Save Feature Bank wrote.",
                ),
                Features.Input(
                    "content",
                    optional=True,
                    tooltip="Features of the portrait to paint now, from DDIM Inversion (Content). Takes the place of "
                    "a stored portrait. Stays open for a file of styles where the prompt says what is painted.",
                ),
            ],
            outputs=[
                Bank.Output(display_name="bank", tooltip="Connect it to the FFA Model Patcher."),
                io.Latent.Output(display_name="noise", tooltip="The first style's noise, for Initial Latent (AdaIN)."),
                io.String.Output(display_name="summary", tooltip="What the bank holds, and how large it is."),
            ],
        )

    @classmethod
    def validate_inputs(cls, bank_name: Any = None) -> bool | str:
        """Name a file that is not there, and what is no name at all, before anything runs."""
        if bank_name is None or path_of(bank_name) is not None:  # None: comes over a link
            return True
        return f"bank_name: {_missing(bank_name)}"

    @classmethod
    def fingerprint_inputs(cls, bank_name: Any = None, **_: Any) -> str:
        """Load again when the file has changed."""
        path = path_of(bank_name)
        try:
            return f"{path} {path.stat().st_mtime_ns} {path.stat().st_size}" if path else str(bank_name)
        except OSError:  # gone since it was listed
            return str(bank_name)

    @classmethod
    def execute(cls, bank_name: str, content: ImageFeatures | None = None) -> io.NodeOutput:
        """Read, check and hand out."""
        path = path_of(bank_name)
        if path is None:
            raise MagicStyleError(f"bank_name {_missing(bank_name)}")
        bank = load_bank(path, content)
        return io.NodeOutput(bank, _stored_noise(bank), summarized("Load Feature Bank", bank))


def _missing(bank_name: Any) -> str:
    if bank_name == NOTHING:
        return f"{NOTHING}: run Save Feature Bank first, then refresh and choose its file."
    return f"{one_line(repr(bank_name))} is not in the magicstyle folders: refresh and choose again."


def _stored_noise(bank: FeatureBank) -> Latent | None:
    """The first style's noise, with its pair after an exact inversion; None where there is none."""
    if not bank.styles:
        return None
    style = bank.styles[0].features
    return None if style.noise_pair is None else noise_latent(style.noise_pair.map(Tensor.float), style.header.sigmas)

"""What users see: a schema and a short execute per node. The list below is the pack."""

from __future__ import annotations

from comfy_api.latest import ComfyExtension, io

from .apply_recipe import ApplyRecipe
from .bank import AddStyle, FeatureBankNode
from .correspondences import CorrespondencePreview
from .demo_model import DemoModel
from .exact_sampler import ExactSampler
from .files import LoadFeatureBank, SaveFeatureBank, register_folder
from .initial_latent import InitialLatent
from .inversion.nodes import InvertContent, InvertStyle
from .midpoint_sampler import MidpointSampler
from .notices import running_server, show_warnings
from .old_names import accept_old_names
from .patcher import PatchFFA
from .portraits import LoadPortraits
from .preset import PresetNode
from .preview import FeaturePreview
from .regions_from_words import RegionsFromWords
from .shipped_pictures import offer_pictures
from .style_controls import StyleControlsNode
from .style_guidance import StyleGuidanceNode
from .style_words import StyleWordsNode
from .trained_lora import TrainedLoraHook

NODES: list[type[io.ComfyNode]] = [
    InvertContent,
    InvertStyle,
    FeatureBankNode,
    PatchFFA,
    InitialLatent,
    DemoModel,
    SaveFeatureBank,
    LoadFeatureBank,
    AddStyle,
    FeaturePreview,
    RegionsFromWords,
    ExactSampler,
    MidpointSampler,
    PresetNode,
    LoadPortraits,
    StyleControlsNode,
    ApplyRecipe,
    CorrespondencePreview,
    StyleGuidanceNode,
    TrainedLoraHook,
    StyleWordsNode,
]


class MagicStyleExtension(ComfyExtension):
    """The pack, as the host sees it."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        """Every node class of the pack; the host first learns of folders, pictures, warnings and old names."""
        register_folder()
        offer_pictures()
        show_warnings()
        accept_old_names(running_server())
        return NODES

"""Where the patches meet the host: always a clone of the model, always the host's own wrappers, nothing global.

The only folder of attention_patches that imports the host.
"""

from .fusion import install_fusion
from .guider import StyleGuider
from .manner import manner_of
from .models import check_model, plain_model
from .recording import install_capture, install_word_reader
from .start import erases, install_start, is_flow, latent_share
from .walks import ModelSource

__all__ = [
    "ModelSource",
    "StyleGuider",
    "check_model",
    "erases",
    "install_capture",
    "install_fusion",
    "install_start",
    "install_word_reader",
    "is_flow",
    "latent_share",
    "manner_of",
    "plain_model",
]

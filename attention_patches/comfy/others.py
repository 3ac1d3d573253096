"""Others: nodes of other packs on a model that cut its latent or answer in its place, and what they are called.

Known by the names under which they register; nothing of them is imported.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from comfy.patcher_extension import WrappersMP

from ..entry import KEY
from ..protocols import Model

# caches that put themselves around calls, by the key of their wrappers
CACHES = {"easycache": "EasyCache", "lazycache": "LazyCache"}
# nodes that take the host's one function wrapper, by what its class or its node is called
FUNCTIONS = {
    "MultiDiffusion": "Tiled Diffusion",
    "MixtureOfDiffusers": "Tiled Diffusion",
    "SpotDiffusion": "Tiled Diffusion",
    "TeaCache": "TeaCache",
    "ApplyFBCacheOnModel": "FBCache",
}
FUNCTION, CONTEXT, TILED = "model_function_wrapper", "context_handler", "tiled_diffusion"
CONTEXT_KEYS = "ContextWindows"
FRAMES_AXIS = 2  # of b c t h w


def looks_in_windows(model: Model, frames: int) -> bool:
    """Whether the host goes over a film of so many frames in context windows."""
    handler = model.model_options.get(CONTEXT)
    return handler is not None and handler.dim == FRAMES_AXIS and frames > handler.context_length


def take_off(model: Model, *, windows: bool = False) -> list[str]:
    """Take caches, tiles and context windows off a clone of a model, and name what was found.

    An inversion walks upwards, which caches do not know, and keeps the features of whole pictures at every step. Of a
    film it may keep latents alone, for which `windows` over its frames stay.
    """
    options, found = model.model_options, []
    stays = windows and getattr(options.get(CONTEXT), "dim", None) == FRAMES_AXIS
    for wrappers in model.wrappers.values():
        for key in [key for key in wrappers if key in CACHES or str(key).startswith(CONTEXT_KEYS) and not stays]:
            del wrappers[key]
            found += [CACHES[key]] if key in CACHES else []
    options["transformer_options"].pop("easycache", None)
    if not stays and options.pop(CONTEXT, None) is not None:
        found.append("Context Windows")
    if (name := _function(options)) in FUNCTIONS:
        del options[FUNCTION]
        for key in [key for key in options if key.startswith(TILED)]:
            del options[key]
        found.append(FUNCTIONS[name])
    return found


def in_between(model_options: Mapping[str, Any]) -> list[str]:
    """What stands between a sampler and the model's network, by the names that users see or that nodes register."""
    found = ["Context Windows"] if model_options.get(CONTEXT) is not None else []
    name = _function(model_options)
    found += [FUNCTIONS.get(name, name)] if name is not None else []
    return [*found, *(CACHES.get(key, key) for key in foreign(model_options.get("transformer_options", {})))]


def foreign(options: Mapping[str, Any]) -> Iterator[str]:
    """The keys of other nodes' wrappers around the network."""
    around = (options.get("wrappers") or {}).get(WrappersMP.DIFFUSION_MODEL, {})
    return (str(key) for key, wrappers in around.items() if wrappers and not str(key).startswith(KEY))


def _function(model_options: Mapping[str, Any]) -> str | None:
    """The class of the function wrapper, or the node in which it is a closure."""
    function = model_options.get(FUNCTION)
    if function is None:
        return None
    return getattr(function, "__qualname__", type(function).__name__).split(".")[0]

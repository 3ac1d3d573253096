"""A guider of two models: the host's own classifier-free guidance with one, and beside it a pass with the other.

Both are clones of one model with the same weights. The second has wrappers, patches and caches of its own, hence a
sampling run of its own around that of the first; in each step it answers one prompt.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import comfy.model_patcher
import comfy.sampler_helpers
import comfy.samplers
from comfy.patcher_extension import WrappersMP
from torch import Tensor

from ...core.errors import MagicStyleError
from ...core.guidance import StyleGuidance
from ..fusion_patch import SigmaWindow
from ..protocols import Model
from .manner import same_network
from .models import check_model
from .runs import each_sentence_once

Conds = Sequence[Mapping[str, Any]]
POSITIVE, NEGATIVE = "positive", "negative"
POST_CFG, FORCED_CFG = "sampler_post_cfg_function", "disable_cfg1_optimization"


class StyleGuider(comfy.samplers.CFGGuider):
    """The host's CFGGuider with style guidance behind all that `model` does to its prediction."""

    def __init__(self, model: Model, guiding_model: Model, guidance: StyleGuidance) -> None:
        for each in (model, guiding_model):
            check_model(each)
        if not same_network(model, guiding_model):
            raise MagicStyleError(
                "model and guiding_model are not the same network with the same weights: take both from one loader, "
                "and put LoRAs and whatever else changes the network before the wire parts."
            )
        super().__init__(model)
        self.guidance = guidance
        self._second = _Guiding(guiding_model.clone())
        sampling = model.get_model_object("model_sampling")
        ends = (sampling.percent_to_sigma(share) for share in (guidance.start_percent, guidance.end_percent))
        self._window = SigmaWindow(*ends)

    def set_conds(self, positive: Any, negative: Any = None) -> None:
        """The prompts; without a negative one the positive stands for it."""
        given = {POSITIVE: positive} if negative is None else {POSITIVE: positive, NEGATIVE: negative}
        self.inner_set_conds(given)
        self._second.inner_set_conds({"style": positive if negative is None else negative})

    def set_cfg(self, cfg: float) -> None:
        """The scale of classifier-free guidance, which needs a negative prompt."""
        if not math.isclose(cfg, 1.0) and NEGATIVE not in self.original_conds:
            raise MagicStyleError(f"cfg is {cfg:g} and negative is open: connect a negative prompt, or set cfg to 1.")
        super().set_cfg(cfg)

    def sample(self, *args: Any, **kwargs: Any) -> Tensor:
        """One sampling run from noise and a latent, b c h w each: b c h w."""
        with each_sentence_once():
            return super().sample(*args, **kwargs)

    def outer_sample(self, *args: Any, **kwargs: Any) -> Tensor:
        """One sampling run, b c h w, inside of one of the second model."""
        sample = super().outer_sample
        if self.guidance.scale == 0.0:
            return sample(*args, **kwargs)
        # newer hosts say by name what nested latents are made of
        shapes = {"latent_shapes": kwargs.pop("latent_shapes")} if "latent_shapes" in kwargs else {}

        def inside(*given: Any) -> Tensor:
            """The run b c h w of this model, once the second is ready."""
            self._second.make_room(self.model_options)
            return sample(*given, **shapes)

        return self._second.around(inside, *args, **kwargs)

    def inner_sample(self, *args: Any, **kwargs: Any) -> Tensor:
        """Sampling with the models loaded: b c h w."""
        try:
            return super().inner_sample(*args, **kwargs)
        finally:
            self._second.forget()

    def predict_noise(
        self, x: Tensor, timestep: Tensor, model_options: dict[str, Any] | None = None, seed: int | None = None
    ) -> Tensor:
        """The denoised picture of x, b c h w each, at the levels b."""
        options = model_options or {}
        if self.guidance.scale == 0.0 or float(timestep.flatten()[0]) not in self._window:
            return super().predict_noise(x, timestep, options, seed)
        negative = self.conds.get(NEGATIVE)

        def guide(given: Mapping[str, Any]) -> Tensor:
            """The host's post-CFG function: b c h w."""
            guiding = self._second.denoised(self, x, timestep, options, seed)
            own = given["cond_denoised"]
            return self.guidance.applied(
                given["denoised"], own, own if negative is None else given["uncond_denoised"], guiding
            )

        guided = {**options, POST_CFG: [*options.get(POST_CFG, []), guide]}
        if negative is not None and self.guidance.needs_negative:
            guided[FORCED_CFG] = True
        return super().predict_noise(x, timestep, guided, seed)


class _Guiding(comfy.samplers.CFGGuider):
    """The second model in a run: loaded, wrapped and prepared as the host does it for a guider."""

    _inner: Callable[..., Tensor]
    _options: dict[str, Any] | None = None

    def around(self, inner: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
        """A run b c h w of the second model, in which `inner` samples."""
        self._inner = inner
        try:
            return self.sample(*args, **kwargs)
        finally:
            del self._inner

    def outer_sample(self, *args: Any, **_: Any) -> Tensor:
        """Inside of all wrappers: load, let the first model sample b c h w, clean up."""
        model, shape = self.model_patcher, args[0].shape
        helpers = comfy.sampler_helpers
        _, conds, loaded = helpers.prepare_sampling(model, shape, self.conds, self.model_options)
        comfy.samplers.cast_to_load_options(self.model_options, device=model.load_device, dtype=model.model_dtype())
        try:
            model.pre_run()
            return self._inner(*args)
        finally:
            model.cleanup()
            helpers.cleanup_models(conds, loaded)

    def make_room(self, model_options: Mapping[str, Any]) -> None:
        """Let the host count for the first model's run what the second's nodes need as well."""
        mine, theirs = (each["transformer_options"]["wrappers"] for each in (self.model_options, model_options))
        counted = mine.get(WrappersMP.PREPARE_SAMPLING, {})
        theirs[WrappersMP.PREPARE_SAMPLING] = {**counted, **theirs.get(WrappersMP.PREPARE_SAMPLING, {})}

    def denoised(
        self, first: StyleGuider, x: Tensor, timestep: Tensor, running: Mapping[str, Any], seed: int | None
    ) -> Tensor:
        """What the second model takes x for, b c h w each, by the first one's prompts as they are prepared."""
        prompt = NEGATIVE if NEGATIVE in first.conds else POSITIVE
        self.inner_model, self.conds = first.inner_model, {"style": first.conds[prompt]}
        self._place = int(prompt == NEGATIVE)
        if self._options is None:
            self._options = comfy.model_patcher.create_model_options_clone(self.model_options)
            self._options.pop("multigpu_clones", None)
            self._options["transformer_options"]["sample_sigmas"] = running["transformer_options"]["sample_sigmas"]
        return self.outer_predict_noise(x, timestep, self._options, seed)

    def predict_noise(
        self, x: Tensor, timestep: Tensor, model_options: dict[str, Any] | None = None, seed: int | None = None
    ) -> Tensor:
        """The answer to one prompt, b c h w, at the place in the host's list that says whether it is a negative one."""
        conds = [None] * self._place + [self.conds["style"]]
        return comfy.samplers.calc_cond_batch(self.inner_model, conds, x, timestep, model_options)[self._place]

    def forget(self) -> None:
        """Let go of what belongs to one run."""
        self._options = None
        self.__dict__.pop("inner_model", None)

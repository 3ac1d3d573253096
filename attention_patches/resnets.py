"""What of a portrait's ResNets goes into the running ones: DiffStyler's copy and MAST's detail.

Letters: b rows or pictures, n tokens, c channels.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from torch import Tensor

from ..core.detail import high_frequencies, with_detail
from ..core.features import View
from ..core.fusion import RESNET_STEPS
from ..core.layers import LayerId
from ..core.scene import Moment
from .call import ResNetCall, ResNetHandler
from .rows import Canvas, Rows


def copied_inputs(view: View, canvas: Canvas, moment: Moment) -> ResNetHandler | None:
    """Copies the content's inputs of one ResNet, with which it gives the content's output, in the early steps."""
    entering = view.resnet
    if entering is None or moment.progress >= RESNET_STEPS:
        return None

    def copy(call: ResNetCall) -> Tensor:
        """What enters the ResNet, b n c, with the content's in its place."""
        rows = _rows(canvas, call)
        return call.x if rows is None else rows.of_content(entering().to(call.x))

    return copy


def added_detail(
    view: View,
    canvas: Canvas,
    moment: Moment,
    layers: Collection[LayerId],
    strength: float,
    added: Callable[[LayerId], None],
    keep: Tensor | None = None,
) -> ResNetHandler | None:
    """Adds the content's detail to what the ResNets before these layers add, in every step but the first.

    `added` hears before which of the layers it was. Where a mask, b h w, keeps the content, it is as detailed already.
    """
    of_content = view.added
    if of_content is None or moment.progress == 0.0:
        return None

    def add(call: ResNetCall) -> Tensor:
        """What a ResNet adds, b n c, with the content's high frequencies."""
        rows = _rows(canvas, call) if call.layer in layers else None
        if rows is None:
            return call.x
        added(call.layer)
        shown = rows.alone if view.alone else rows
        content = of_content(call.layer).to(call.x)
        high = high_frequencies(content, canvas.grids[call.layer])
        high = shown.of_content(high)
        if keep is not None:
            high = high * (1.0 - shown.of_region(keep)).to(high)[..., None]
        return with_detail(call.x, shown.of_content(content), high, strength)

    return add


def _rows(canvas: Canvas, call: ResNetCall) -> Rows | None:
    return Rows.on(canvas, call.layer, call.grid, call.rows, call.x.shape[0])

"""Words drawn above pictures."""

from __future__ import annotations

import numpy as np
import torch
from einops import repeat
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

TEXT, LINES, MARGIN = 16, 2, 4
STRIP = LINES * (TEXT + MARGIN) + MARGIN


def captioned(picture: Tensor, *lines: str) -> Tensor:
    """A picture h w 3 under a white strip with at most two lines of text, made smaller where they are too long."""
    width = picture.shape[1]
    strip = Image.new("L", (width, STRIP), 255)
    draw = ImageDraw.Draw(strip)
    for number, line in enumerate(lines):
        draw.text((0, MARGIN + number * (TEXT + MARGIN)), line, fill=0, font=_font(line, width))
    grey = torch.from_numpy(np.asarray(strip, dtype=np.float32) / 255.0)
    return torch.cat([repeat(grey, "h w -> h w rgb", rgb=3), picture])


def _font(line: str, width: int) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    """The largest font of at most the usual size in which a line fits."""
    sizes = range(TEXT, 5, -1)
    fitting = (size for size in sizes if ImageFont.load_default(size).getlength(line) <= width)
    return ImageFont.load_default(next(fitting, 6))

"""Random metric networks and small pictures from seeds alone, the same on every machine."""

import torch
import torch.nn.functional as F
from magicstyle.benchmarks.published import networks
from safetensors.torch import save_file

SHAPES = {
    "art_inception": networks.inception_shapes,
    "alexnet": networks.alexnet_shapes,
    "lpips_alex": networks.lpips_shapes,
    "vgg19": networks.vgg19_shapes,
}
# with its weights as they are, random VGG19 gives flat self-similarities, and a CFSD of nothing
STEEP = 4.0


def random_weights(kind):
    """A metric network's tensors: a convolution keeps the variance, a normalisation is near the identity."""
    generator = torch.Generator().manual_seed(sum(kind.encode()))
    weights = {name: _fill(name, shape, generator) for name, shape in SHAPES[kind]().items()}
    if kind == "vgg19":
        weights["features.10.weight"] *= STEEP
    return weights


def _fill(name, shape, generator):
    noise = torch.randn(shape, generator=generator)
    if name.startswith("lin"):
        return 0.2 * noise.abs()
    if name.endswith("running_var") or (".bn." in name and name.endswith("weight")):
        return 1.0 + 0.1 * noise.abs()
    if len(shape) == 1:
        return 0.1 * noise
    return noise * (2.0 / noise[0].numel()) ** 0.5


def write_random_weights(folder):
    """The four files of --metric-weights."""
    folder.mkdir(parents=True, exist_ok=True)
    for kind in SHAPES:
        save_file(random_weights(kind), folder / f"{kind}.safetensors")
    return folder


def random_pictures(count, seed, side=96):
    """Blurred noise in 256 levels: count 3 side side in 0..1."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 3, 6, 6, generator=generator)
    fine = 0.1 * torch.randn(count, 3, side, side, generator=generator)
    smooth = F.interpolate(coarse, size=(side, side), mode="bilinear", align_corners=False)
    return ((smooth + fine).clamp(0, 1) * 255).round() / 255


def random_set(contents=3, styles=4):
    """Contents, styles and the results of all pairs, half way between the two, content by content."""
    c, s = random_pictures(contents, 1), random_pictures(styles, 2)
    mixed = 0.5 * c.repeat_interleave(styles, dim=0) + 0.5 * s.repeat(contents, 1, 1, 1)
    noise = 0.05 * torch.randn(mixed.shape, generator=torch.Generator().manual_seed(3))
    return c, s, ((mixed + noise).clamp(0, 1) * 255).round() / 255

"""The published fusions run to the end in plain torch: own DDIM loops, tests/core's formulas, the host's bare UNet.

Nothing of the pack is used: features are caught and injected through the UNet's attn1_replace patches.
"""

import math

import torch
import torch.nn.functional as F
from magicstyle.tests.core.oracle import best_matches, dense_attention, diffstyler

DECODER = [("output", number) for number in range(6, 12)]


def eps(model, x, sigma, context, replace):
    """The UNet's noise prediction for x = x0 + sigma eps, with attention replaced in the decoder."""
    options = {"patches_replace": {"attn1": dict.fromkeys(DECODER, replace)}} if replace else {}
    sigmas = sigma.expand(x.shape[0])
    denoised = model.apply_model(x, sigmas, c_crossattn=context.expand(x.shape[0], -1, -1), transformer_options=options)
    return (x - denoised) / sigma


def invert(model, x, grid, context):
    """Walk up the grid, keeping (q, k, v) by (step, block)."""
    kept = {}
    x = x + grid[-1] * eps(model, x, grid[-1], context, None)
    for step in range(len(grid) - 1, -1, -1):

        def keep(q, k, v, options, step=step):
            kept[step, options["block"]] = (q.clone(), k.clone(), v.clone())
            return dense_attention(q, k, v, options["n_heads"])

        e = eps(model, x, grid[step], context, keep)
        if step:
            x = x + (grid[step - 1] - grid[step]) * e
    return x, kept


def ddim(model, x, sigmas, context, replace):
    """Plain DDIM; `replace(step)` gives the attention of a step, or None for the UNet's own."""
    for step in range(len(sigmas) - 1):
        e = eps(model, x, sigmas[step], context, replace(step))
        x = x + (sigmas[step + 1] - sigmas[step]) * e
    return x


def timestep_share(model, sigma):
    """The timestep of a noise level as a share of the thousand."""
    return float(model.model_sampling.timestep(sigma)) / 1000


def stylize(model, content, style, sigmas, context, rule, share=timestep_share, *, matched=False):
    """The stylized latent, in the model's scale, from the content's inverted noise.

    `rule` is one of those of tests/core/oracle.py; `share` gives the t that it reads. `matched`: it is told, too, which
    places of the style those of the content are most like, by the keys of the first block of their grid.
    """
    grid = sigmas[:-1]
    x, kept_content = invert(model, content, grid, context)
    _, kept_style = invert(model, style, grid, context)
    matches = compared(kept_content, kept_style, len(grid), content.shape[2:]) if matched else {}

    def replace(step):
        t = share(model, grid[step])

        def inject(q, k, v, options):
            key = step, options["block"]
            more = {"matches": matches[q.shape[1]]} if matched else {}
            return rule((q, k, v), kept_content[key], kept_style[key], options["n_heads"], step / len(grid), t, **more)

        return inject

    return ddim(model, x, sigmas, context, replace)


def compared(content, style, steps, size):
    """The matches by output.6's keys, two fifths of the way from noise to clean, on its grid and at twice the size."""
    coarse = [(side + 1) // 2 for side in size]

    def keys(kept):
        k = kept[round(0.4 * (steps - 1)), ("output", 6)][1]
        cells = k.mT.unflatten(2, coarse)
        return {math.prod(to): F.interpolate(cells, tuple(to), mode="bilinear").flatten(2).mT for to in (coarse, size)}

    ours, theirs = keys(content), keys(style)
    return {n: best_matches(ours[n], theirs[n]) for n in ours}


def eps_with_resnet(model, x, sigma, context, replace, resnet):
    """As eps, with `resnet(output)` in place of the output of the second ResNet of the second decoder level."""
    block = model.diffusion_model.output_blocks[4][0]
    handle = block.register_forward_hook(lambda module, inputs, output: resnet(output))
    try:
        return eps(model, x, sigma, context, replace)
    finally:
        handle.remove()


def diffstyler_whole(model, content, sigmas, context, prompt, share=30 / 50):
    """Queries and keys blended in the decoder's last levels, the ResNet's output copied in the first 30 of 50 steps."""
    grid, kept, outputs = sigmas[:-1], {}, {}
    x = content + grid[-1] * eps(model, content, grid[-1], context, None)
    for step in range(len(grid) - 1, -1, -1):

        def keep(q, k, v, options, step=step):
            kept[step, options["block"]] = (q.clone(), k.clone())
            return dense_attention(q, k, v, options["n_heads"])

        def note(output, step=step):
            outputs[step] = output.clone()

        e = eps_with_resnet(model, x, grid[step], context, keep, note)
        if step:
            x = x + (grid[step - 1] - grid[step]) * e
    for step in range(len(grid)):
        t = float(model.model_sampling.timestep(grid[step])) / 1000

        def inject(q, k, v, options, step=step, t=t):
            return diffstyler((q, k, v), kept[step, options["block"]], None, options["n_heads"], 0, t)

        def copy(output, step=step):
            return outputs[step] if step / len(grid) < share else output

        e = eps_with_resnet(model, x, grid[step], prompt, inject, copy)
        x = x + (sigmas[step + 1] - sigmas[step]) * e
    return x


def high_pass(x):
    """A map b c y x, by a full Fourier transform: what is D from the lowest keeps 1 - exp(-D^2 / 2 (0.3 sides)^2)."""
    sides = x.shape[-2:]
    down, across = ([k if k < (side + 1) // 2 else k - side for k in range(side)] for side in sides)
    squared = torch.tensor([[float(i * i + j * j) for j in across] for i in down], dtype=torch.float64)
    passed = 1 - torch.exp(-squared / (2 * (0.3 * min(sides)) ** 2))
    return torch.fft.ifft2(torch.fft.fft2(x.double()) * passed).real.to(x)


def eps_with_resnets(model, x, sigma, context, replace, change):
    """As eps, with `change(number, added)` in place of what the ResNet of each decoder block adds to its skip."""
    handles = []
    for _, number in DECODER:

        def hook(module, inputs, output, number=number):
            skipped = module.skip_connection(inputs[0])
            return skipped + change(number, output - skipped)

        handles.append(model.diffusion_model.output_blocks[number][0].register_forward_hook(hook))
    try:
        return eps(model, x, sigma, context, replace)
    finally:
        for handle in handles:
            handle.remove()


def stylize_with_detail(model, content, style, sigmas, context, rule, strength):
    """As stylize, with MAST's detail of the content in the decoder's ResNets, in every step but the first."""
    grid, kept, added = sigmas[:-1], {}, {}
    _, kept_style = invert(model, style, grid, context)
    x = content + grid[-1] * eps(model, content, grid[-1], context, None)
    for step in range(len(grid) - 1, -1, -1):

        def keep(q, k, v, options, step=step):
            kept[step, options["block"]] = (q.clone(), k.clone(), v.clone())
            return dense_attention(q, k, v, options["n_heads"])

        def note(number, own, step=step):
            added[step, number] = own.clone()
            return own

        e = eps_with_resnets(model, x, grid[step], context, keep, note)
        if step:
            x = x + (grid[step - 1] - grid[step]) * e
    for step in range(len(grid)):

        def inject(q, k, v, options, step=step):
            key = step, options["block"]
            t = timestep_share(model, grid[step])
            return rule((q, k, v), kept[key], kept_style[key], options["n_heads"], step / len(grid), t)

        def add(number, own, step=step):
            theirs = added[step, number]
            apart = 1 - float(F.cosine_similarity(own.flatten(), theirs.flatten(), dim=0))  # of one picture
            return own + strength * apart * high_pass(theirs) if step else own

        e = eps_with_resnets(model, x, grid[step], context, inject, add)
        x = x + (sigmas[step + 1] - sigmas[step]) * e
    return x

"""StyleID from its paper (Chung et al., CVPR 2024) in plain torch: own DDIM loops, own attention, the host's bare UNet.

Nothing of the pack is used: features are caught and injected through the UNet's attn1_replace patches.
"""

import torch

DECODER = [("output", number) for number in range(6, 12)]


def heads_first(t, heads):
    return t.reshape(t.shape[0], t.shape[1], heads, -1).permute(0, 2, 1, 3)


def attention(q, k, v, heads, tau=1.0):
    q, k, v = (heads_first(t, heads) for t in (q, k, v))
    weights = torch.softmax(tau * (q @ k.transpose(-1, -2)) * q.shape[-1] ** -0.5, dim=-1)
    return (weights @ v).permute(0, 2, 1, 3).flatten(2)


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
            return attention(q, k, v, options["n_heads"])

        e = eps(model, x, grid[step], context, keep)
        if step:
            x = x + (grid[step - 1] - grid[step]) * e
    return x, kept


def styleid(model, content, style, sigmas, context, gamma, tau):
    """The stylized latent, in the model's scale, starting from the content's inverted noise."""
    grid = sigmas[:-1]
    x, kept_content = invert(model, content, grid, context)
    _, kept_style = invert(model, style, grid, context)
    for step in range(len(grid)):

        def inject(q, k, v, options, step=step):
            q_content = kept_content[step, options["block"]][0]
            _, k_style, v_style = kept_style[step, options["block"]]
            return attention(gamma * q_content + (1 - gamma) * q, k_style, v_style, options["n_heads"], tau)

        e = eps(model, x, grid[step], context, inject)
        x = x + (sigmas[step + 1] - sigmas[step]) * e
    return x

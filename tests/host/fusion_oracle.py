"""The published fusions in plain torch, from their formulas: own DDIM loops, own attention, the host's bare UNet.

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


def ddim(model, x, sigmas, context, replace):
    """Plain DDIM; `replace(step)` gives the attention of a step, or None for the UNet's own."""
    for step in range(len(sigmas) - 1):
        e = eps(model, x, sigmas[step], context, replace(step))
        x = x + (sigmas[step + 1] - sigmas[step]) * e
    return x


def stylize(model, content, style, sigmas, context, rule):
    """The stylized latent, in the model's scale, from the content's inverted noise.

    `rule(live, content, style, heads, done, t)` answers an attention call from three (q, k, v), the share of steps that
    are done and the timestep as a share of all.
    """
    grid = sigmas[:-1]
    x, kept_content = invert(model, content, grid, context)
    _, kept_style = invert(model, style, grid, context)

    def replace(step):
        t = float(model.model_sampling.timestep(grid[step])) / 1000

        def inject(q, k, v, options):
            key = step, options["block"]
            return rule((q, k, v), kept_content[key], kept_style[key], options["n_heads"], step / len(grid), t)

        return inject

    return ddim(model, x, sigmas, context, replace)


def cat(*parts):
    return torch.cat(parts, dim=1)


def styleid(live, content, style, heads, done, t, gamma=0.75, tau=1.5):
    return attention(gamma * content[0] + (1 - gamma) * live[0], style[1], style[2], heads, tau)


def ffa(live, content, style, heads, done, t, gamma=0.75, tau=1.5, w_s=1.0, w_c=0.05):
    """One softmax over both pictures; a weight multiplies its picture's share before the softmax is normalised."""
    q = gamma * content[0] + (1 - gamma) * live[0]
    q, k, v = (heads_first(part, heads) for part in (q, cat(style[1], content[1]), cat(style[2], content[2])))
    logits = tau * (q @ k.transpose(-1, -2)) * q.shape[-1] ** -0.5
    mass = torch.exp(logits - logits.amax(-1, keepdim=True))
    tokens = style[1].shape[1]
    mass = torch.cat([w_s * mass[..., :tokens], w_c * mass[..., tokens:]], dim=-1)
    return (mass / mass.sum(-1, keepdim=True) @ v).permute(0, 2, 1, 3).flatten(2)


def masactrl(live, content, style, heads, done, t):
    return attention(live[0], content[1], content[2], heads)


def sac(live, content, style, heads, done, t):
    anchored, free = (attention(q, style[1], style[2], heads) for q in (content[0], live[0]))
    return anchored if done < 0.7 else anchored + 1.2 * (free - anchored)


def seac(live, content, style, heads, done, t):
    return attention(live[0], cat(content[1], 1.2 * style[1]), cat(content[2], style[2]), heads)


def zstar(live, content, style, heads, done, t):
    return attention(live[0], cat(1.2 * style[1], live[1]), cat(style[2], live[2]), heads)


def adain(x, y):
    normal = (x - x.mean(1, keepdim=True)) / x.std(1, keepdim=True, correction=0)
    return normal * y.std(1, keepdim=True, correction=0) + y.mean(1, keepdim=True)


def style_aligned(live, content, style, heads, done, t):
    q, k = adain(live[0], style[0]), adain(live[1], style[1])
    return attention(q, cat(style[1], k), cat(style[2], live[2]), heads)


def rsa(live, content, style, heads, done, t):
    """Every reference token's logit is raised by 3: its mass is multiplied by e^3."""
    q, k, v = (heads_first(part, heads) for part in (live[0], cat(live[1], style[1]), cat(live[2], style[2])))
    logits = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
    logits[..., live[1].shape[1] :] += 3.0
    return (torch.softmax(logits, dim=-1) @ v).permute(0, 2, 1, 3).flatten(2)


def diffstyler(live, content, style, heads, done, t):
    r = min(2 * t, 1.0)
    q, k = (r * c + (1 - r) * x for c, x in zip(content[:2], live[:2], strict=True))
    return attention(q, k, live[2], heads)


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
            return attention(q, k, v, options["n_heads"])

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


RULES = {rule.__name__: rule for rule in (ffa, styleid, masactrl, sac, seac, zstar, style_aligned, rsa, diffstyler)}

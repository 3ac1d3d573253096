"""Damaged bank files, from seeds: what a disk, a network or a malicious hand makes of a bank, and what must follow.

A file may be refused with the one error class, or load; what loads must be whole: usable by every fusion, and where its
bytes were damaged, the bank that was saved. Who changes the header or the tensors also writes checksums that fit.
"""

import copy
import json
import random
import resource
import time
from contextlib import suppress

import torch
from magicstyle.banks.bank import FeatureBank, StyleEntry, content_roles, style_roles
from magicstyle.banks.bank_file import load_bank, save_bank, sealed, with_checksums
from magicstyle.banks.stored_features import StoredFeatures
from magicstyle.core.errors import MagicStyleError
from magicstyle.core.features import AttentionFeatures
from magicstyle.core.fusion import FUSIONS, FusionSettings, fuse
from magicstyle.core.scene import Scene, StyleFeatures
from magicstyle.tests.core.oracle import kernel, laid, randn
from magicstyle.tests.core.test_bank_file import features, reversible, trajectory
from safetensors import safe_open
from safetensors.torch import save_file

SECONDS, BYTES = 2.0, 500 * 2**20
WIDTH = 8
DEEP = json.loads("[" * 300 + "]" * 300)
VALUES = [
    None, True, False, -1, 0, 1, 2, 7, 0.9, -0.0, 1e-300, 1e300, 10**400, -(10**30), 2**31, 2**63, 3000, 50_000,
    float("inf"), float("-inf"), float("nan"), "", "0", "1", "4321", "54321", "features", "latents", "ddim", "foo.1.2",
    "output.-1.0", "output.06.0", "output.6.0", "../../etc/passwd", "a\nb\n", "\x00", "x" * 10_000, "\ud800", [], {},
    [0], [1], [-1], [1, 1], [3, 5], [5, 3], [6, 10], [3000, 3000], [60, 1], [1.0, 2.0], [True, True], ["3", "5"], DEEP,
    [1, 4, 6, 10], [2, 4, 6, 10], [1, 4, 10, 6], {"output.6.0": 2}, {"picture": 0, "weight": 1.0}, list(range(20_000)),
]  # fmt: skip
NAMES = [
    "0.inputs.t", "1.inputs.self", "1.inputs.x", "1.inputs.y", "1.inputs.control", "1.inputs.transformer_options",
    "1.inputs.c_crossattn", "1.inputs.c_concat", "0.latents", "1.latents", "2.latents", "0.noise", "1.companion",
    "0.companion", "0.output.6.0.x", "0.output.4.0.x", "0.output.6.0.q", "1.output.9.0.k", "0.output.6.0.qq", "0.", "",
    "style0.region", "style1.region", "style0.style_mask", "style9.region", "style-1.region", "style0.noise", "0.a\nb",
]  # fmt: skip
DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.int32, torch.bool]


def sound_bank():
    """Features and latents, one picture twice, a region and a mask: everything that a file may hold."""
    region, mask = torch.rand(1, 6, 7, generator=torch.Generator().manual_seed(1)), torch.ones(1, 3, 4)
    pair = reversible(torch.full((1, 4, 6, 10), 0.25))
    styles = (StyleEntry(trajectory(), 0.5, region), StyleEntry(features(dtype=torch.float32), 2.0, None, mask))
    return FeatureBank(features(), (*styles, StyleEntry(pair, 1.0), StyleEntry(trajectory(3), 1.0, 1.0 - region)))


class Fuzzer:
    """Damages copies of one saved bank."""

    def __init__(self, folder):
        self.folder = folder
        self.bank = sound_bank()
        self.saved = folder / "saved.safetensors"
        save_bank(self.bank, self.saved)
        with safe_open(str(self.saved), "pt") as file:
            self.tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
            self.header = json.loads(file.metadata()["magicstyle"])
        del self.header["checksums"]

    def damaged(self, seed):
        """(a damaged file, what was done to it, whether its bytes were damaged)."""
        source = random.Random(seed)
        path = self.folder / f"damaged_{seed}.safetensors"
        kind = source.choice(["bytes", "bytes", "header", "header", "tensors", "both"])
        if kind == "bytes":
            content, action = damaged_bytes(source, bytearray(self.saved.read_bytes()))
            path.write_bytes(content)
            return path, action, True
        header, tensors, deeds = copy.deepcopy(self.header), dict(self.tensors), []
        if kind != "tensors":
            deeds += [damage_json(source, header) for _ in range(source.choice([1, 1, 1, 2, 4]))]
        if kind != "header":
            deeds += [damage_tensors(source, tensors) for _ in range(source.choice([1, 1, 2]))]
        tensors = {name: tensor.contiguous().clone() for name, tensor in tensors.items()}
        save_file(tensors, str(path), sealed(with_checksums(header, tensors)))
        return path, "; ".join(deeds), False

    def verdict(self, seed):
        """'refused' or 'loaded' for one damaged file; raises AssertionError where it is neither rightly."""
        path, action, in_bytes = self.damaged(seed)
        started, before = time.process_time(), peak_bytes()
        bank, message = None, ""
        try:
            bank = load_bank(path)
        except MagicStyleError as error:
            message = str(error)
        spent, grown = time.process_time() - started, peak_bytes() - before
        assert spent < SECONDS and grown < BYTES, f"seed {seed} ({action}): {spent:.1f} s, {grown / 2**20:.0f} MB"
        assert len(message) < 1000 and message.isprintable(), f"seed {seed} ({action}): {message[:2000]!r}"
        if bank is not None:
            use(bank)
            if in_bytes:
                same_bank(bank, self.bank)
        path.unlink()
        return "refused" if bank is None else "loaded"


def damaged_bytes(source, content):
    """Bytes as a bad disk or a broken transfer leaves them."""
    place, span = source.randrange(len(content)), source.choice([1, 2, 8, 100, 4096])
    if source.random() < 0.5:  # the header is short and all of it matters
        place = source.randrange(8 + int.from_bytes(content[:8], "little"))
    action = source.choice(["flip", "set", "cut", "truncate", "insert", "zero", "repeat", "many"])
    if action == "flip":
        content[place] ^= 1 << source.randrange(8)
    elif action == "set":
        content[place] = source.randrange(256)
    elif action == "cut":
        del content[place : place + span]
    elif action == "truncate":
        del content[place:]
    elif action == "insert":
        content[place:place] = source.randbytes(span)
    elif action == "zero":
        content[place : place + span] = bytes(len(content[place : place + span]))
    elif action == "repeat":
        content[place:place] = content[place : place + span]
    else:
        for _ in range(span):
            content[source.randrange(len(content))] ^= 1 << source.randrange(8)
    return bytes(content), f"{action} {span} at {place}"


def damage_json(source, header):
    """One value anywhere in the header replaced, removed, doubled or brought from elsewhere."""
    places = list(paths(header))
    place = source.choice(places)
    inner = header
    with suppress(KeyError, IndexError, TypeError):
        for key in place[:-1]:
            inner = inner[key]
        action = source.choice(["replace", "replace", "replace", "remove", "copy", "rename", "scale"])
        if action == "replace":
            inner[place[-1]] = copy.deepcopy(source.choice(VALUES))
        elif action == "remove":
            del inner[place[-1]]
        elif action == "copy":
            inner[place[-1]] = copy.deepcopy(at(header, source.choice(places)))
        elif action == "rename" and isinstance(inner, dict):
            inner[source.choice(["output.6.1", "output.6.0", "foo.1.2", "weight", "picture"])] = inner.pop(place[-1])
        elif action == "scale" and isinstance(inner[place[-1]], int | float):
            inner[place[-1]] *= source.choice([-1, 0, 2, 10, 1000, 0.5])
        return f"{action} {place}"
    return "nothing"


def damage_tensors(source, tensors):
    """One tensor renamed, removed, added, of another type or shape, or of other values."""
    name = source.choice(list(tensors))
    tensor = tensors[name]
    action = source.choice(
        ["remove", "rename", "add", "type", "shape", "turn", "nan", "inf", "scale", "slice", "repeat"]
    )
    if action == "remove":
        del tensors[name]
    elif action == "rename":
        tensors[source.choice(NAMES)] = tensors.pop(name)
    elif action == "add":
        tensors[source.choice(NAMES)] = torch.ones(
            source.choice([(), (1,), (1, 8), (1, 4, 6, 10), (1, 0, 4), (3, 2, 2)])
        )
    elif action == "type":
        tensors[name] = tensor.float().to(source.choice(DTYPES))
    elif action == "shape":
        tensors[name] = tensor.flatten() if source.random() < 0.5 else tensor.unsqueeze(0)
    elif action == "turn" and tensor.ndim > 1:
        tensors[name] = tensor.transpose(-1, -2)
    elif action in ("nan", "inf") and tensor.numel():
        changed = tensor.clone().float()
        changed.view(-1)[source.randrange(changed.numel())] = float(action)
        tensors[name] = changed.to(tensor.dtype)
    elif action == "scale":
        tensors[name] = (tensor.float() * source.choice([-1.0, 0.0, 3.0, 1e3])).to(tensor.dtype)
    elif action == "slice" and tensor.ndim:
        tensors[name] = tensor[..., : source.choice([0, 1, 2, 4])]
    elif action == "repeat" and tensor.ndim:
        tensors[name] = tensor.repeat(source.choice([2, 3]), *(1 for _ in tensor.shape[1:]))
    return f"{action} {name}"


def paths(value, path=()):
    """The path of every value in a header."""
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in entries:
        yield (*path, key)
        yield from paths(inner, (*path, key))


def at(value, path):
    for key in path:
        value = value[key]
    return value


def use(bank):
    """All that the pack does with a bank: any that loads must bear it, with every method and without a NaN."""
    assert bank.nbytes > 0 and bank.layers
    for picture in bank:
        header = picture.header
        assert all(type(sigma) is float for sigma in header.sigmas) and picture.nearest(1.0).step < len(header.sigmas)
        assert all(header.heads[layer] >= 1 for layer in header.layers)
        assert header.method.isidentifier() and header.model.name.isprintable()
        if not isinstance(picture, StoredFeatures):
            assert picture.latents.shape == (header.groups.count, *header.latent_shape)
            assert set(picture.inputs) <= {"c_crossattn", "c_concat", "y", "crossattn_controlnet"}
            assert picture.inputs["c_crossattn"].shape[0] == header.batch
    for style in bank.styles:
        assert type(style.weight) is float
    for method in FUSIONS:
        if bank.styles if FUSIONS[method].style else bank.content is not None:
            fuse_all(bank, FusionSettings(method=method))


def fuse_all(bank, settings):
    for layer in bank.layers:
        header = bank.pictures[0].header
        rows, tokens = painted(bank), header.grids[layer][0] * header.grids[layer][1]
        stored = bank.content is None or on_rows(bank.content, layer, content_roles(settings, bank), rows)
        width = width_of(bank, layer)
        styles = tuple(placed(entry, layer, settings, rows, header.grids[layer]) for entry in bank.styles)
        if stored is None or None in styles:
            continue  # kept without the roles that this method reads: refused when it is connected
        live = AttentionFeatures(*(randn(seed, rows, tokens, width) for seed in (1, 2, 3)))
        content = live if bank.content is None else stored
        result = fuse(kernel(header.heads[layer], takes_key_mask=True), Scene(live, content, styles), settings)
        assert result.shape == live.q.shape and bool(torch.isfinite(result).all())


def painted(bank):
    """How many pictures a run paints: without a content as many as any style or mask has."""
    if bank.content is not None:
        return bank.content.header.batch
    masks = [mask for style in bank.styles for mask in (style.region, style.style_mask) if mask is not None]
    return max([picture.header.batch for picture in bank] + [mask.shape[0] for mask in masks])


def placed(entry, layer, settings, rows, grid):
    found = on_rows(entry.features, layer, style_roles(settings), rows)
    region = None if entry.region is None else grid.covered(entry.region)
    mask = entry.style_mask
    shown = None if mask is None else entry.features.header.grids[layer].covered(mask)
    if found is None:
        return None
    queries = laid(found.q, grid.tokens) if "q" in found else None
    return StyleFeatures(found, entry.weight, region, shown, queries=queries)


def on_rows(picture, layer, roles, rows):
    """What a call reads of a picture, as the patches lay it; a trajectory's features are any of the right shape."""
    h, w = picture.header.grids[layer]
    if not isinstance(picture, StoredFeatures):
        shape = (rows, h * w, picture.header.heads[layer] * (WIDTH // 2))
        return AttentionFeatures(**{role: randn(ord(role), *shape) for role in roles})
    if any(role not in picture.roles for role in roles):
        return None
    found = picture.at(layer, 0, roles)
    for role in roles:
        assert getattr(found, role).shape[:2] == (picture.header.batch, h * w)
    return found.map(lambda tokens: tokens.float().expand(rows, -1, -1))


def width_of(bank, layer):
    stored = [picture for picture in bank if isinstance(picture, StoredFeatures)]
    widths = {getattr(picture.at(layer, 0, role), role).shape[-1] for picture in stored for role in picture.roles[:1]}
    assert len(widths) <= 1, "pictures of two widths"
    return widths.pop() if widths else bank.content.header.heads[layer] * (WIDTH // 2)


def same_bank(a, b):
    assert len(a.styles) == len(b.styles)
    for ours, theirs in zip(a, b, strict=True):
        assert ours.header == theirs.header and ours.tensors.keys() == theirs.tensors.keys()
        assert all(torch.equal(ours.tensors[name], theirs.tensors[name]) for name in ours.tensors)
    for ours, theirs in zip(a.styles, b.styles, strict=True):
        assert ours.weight == theirs.weight
        for mask in ("region", "style_mask"):
            old, new = getattr(ours, mask), getattr(theirs, mask)
            assert (old is None) == (new is None) and (old is None or torch.equal(old, new))


def peak_bytes():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

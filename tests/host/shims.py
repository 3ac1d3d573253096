"""Stand-ins for what ComfyUI imports and a CPU machine lacks; install them before the first host import."""

from __future__ import annotations

import importlib.util
import sys
import types
from importlib.machinery import ModuleSpec

TORCHAUDIO = ("torchaudio", "torchaudio.functional", "torchaudio.transforms", "torchaudio.compliance.kaldi")


def stub(name: str) -> types.ModuleType:
    """An empty module under a dotted name, with its parents."""
    parent, _, leaf = name.rpartition(".")
    if name not in sys.modules:
        module = types.ModuleType(name)
        module.__spec__ = ModuleSpec(name, None, is_package=True)
        module.__path__ = []
        sys.modules[name] = module
        if parent:
            setattr(stub(parent), leaf, module)
    return sys.modules[name]


def install_shims() -> None:
    """Let the host import on a CPU build of torch: no compiled torchvision operators, no torchaudio."""
    # registers fake kernels for operators that a CUDA torchvision beside a CPU torch does not have
    sys.modules.setdefault("torchvision._meta_registrations", types.ModuleType("torchvision._meta_registrations"))
    if "torchaudio" not in sys.modules and importlib.util.find_spec("torchaudio") is None:
        for name in TORCHAUDIO:
            stub(name)


def use_host(path: str) -> None:
    """Make a ComfyUI checkout importable in this process, on the CPU, ahead of the pack's own nodes/ folder."""
    install_shims()
    if path in sys.path:
        sys.path.remove(path)
    sys.path.insert(0, path)
    from comfy.cli_args import args

    args.cpu = True

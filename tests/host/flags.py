"""The pictures of the plain graph, with and without our node, in a process of its own that has flags of the host.

python -m magicstyle.tests.host.flags HOST OUT.safetensors [flag ..]
"""

from __future__ import annotations

import sys
import types
from pathlib import Path


def main(host: str, out: str, flags: list[str]) -> None:
    """Write the pictures, and what the host has made of the flags."""
    pack = types.ModuleType("magicstyle")  # the checkout as a package, without running its __init__.py
    pack.__path__ = [str(Path(__file__).resolve().parents[2])]
    sys.modules["magicstyle"] = pack
    from magicstyle.tests.host.shims import install_shims

    install_shims()
    sys.path.insert(0, host)
    sys.argv = ["main.py", "--cpu", *flags]
    import comfy.options

    comfy.options.enable_args_parsing()
    import torch

    torch.set_num_threads(1)
    from comfy.ldm.modules import attention
    from magicstyle.tests.host.composition.graph import base
    from magicstyle.tests.host.composition.matrix import LAYERS, STORAGES, alone, ours_alone
    from safetensors.torch import save_file

    pictures = {storage: ours_alone(base, storage, LAYERS) for storage in STORAGES}
    facts = {"attention": attention.optimized_attention.__name__}
    save_file({"plain": alone(base), **pictures}, out, metadata=facts)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])

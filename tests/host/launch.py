"""Run a ComfyUI checkout's main.py with the stand-ins of shims.py: python launch.py CHECKOUT [arguments of main.py]."""

from __future__ import annotations

import os
import runpy
import sys

from shims import install_shims

if __name__ == "__main__":
    checkout = os.path.abspath(sys.argv[1])
    install_shims()
    os.chdir(checkout)
    sys.path[0] = checkout
    sys.argv = [os.path.join(checkout, "main.py"), *sys.argv[2:]]
    runpy.run_path(sys.argv[0], run_name="__main__")

"""The nodes' help pages, by language: written here, completed with what the schemas and the methods say.

The checkout answers to the name `magicstyle` here, also where it is not installed.
"""

import sys
import types
from pathlib import Path

if "magicstyle" not in sys.modules:
    sys.modules["magicstyle"] = types.ModuleType("magicstyle")
    sys.modules["magicstyle"].__path__ = [str(Path(__file__).resolve().parents[2])]

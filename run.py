"""Two commands that do everything on a fresh machine; bare Python 3.10 or newer is enough, on Linux, macOS and Windows.

    python run.py demo     makes an environment, paints a photograph like a Hokusai print, ends with the picture's path
    python run.py test     makes an environment, checks the code, runs the tests that this machine allows

What follows `demo` goes to `magicstyle stylize --preset fast`, what follows `test` to pytest alone (--full: all of it).
Each environment (.venv-demo and .venv beside this file) is made once and completed when its requirements change.
Environment variables for `test`: VENV names another folder, COMFYUI_PATH the ComfyUI to test against, COMFYUI_PATH_2 a
second one.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent
OLDEST = (3, 10)
SECOND_HOST = Path.home() / "comfy" / "ComfyUI-0.33"
# what meets the host; the formulas are proved on the first one, and the public test matrix runs everything on both
MEETS_HOST = (
    "blueprint",
    "composition",
    "detail",  # hooks parts of the network by their names
    "families",
    "family_fusion",  # with the transformers that an older host does not have
    "files",
    "help",
    "infrastructure",
    "models",
    "server_interrupt",
)
# in the browser: Nodes 2.0 on the newer host alone, each workflow's run on the first one; and what needs one host alone
ON_FIRST, ON_SECOND = "not either", "not slow"


def main(arguments: list[str]) -> int:
    """Run one of the two commands -> the exit code."""
    commands = {"demo": demo, "test": test}
    if sys.version_info < OLDEST:
        return refuse(f"this is Python {sys.version.split()[0]}: use Python {'.'.join(map(str, OLDEST))} or newer.")
    if not arguments or arguments[0] not in commands:
        print(__doc__, file=sys.stderr)
        return 2
    os.chdir(ROOT)
    return commands[arguments[0]](arguments[1:])


def demo(arguments: list[str]) -> int:
    """Paint the shipped pair with the demo model, or what the arguments say; the first picture comes soon."""
    python = environment(ROOT / ".venv-demo", ROOT / "requirements-demo.txt")
    if python is None:
        return 1
    return call(python, "-m", "magicstyle.headless.cli", "stylize", "--preset", "fast", *(arguments or ["--sheet"]))


def test(arguments: list[str]) -> int:
    """Check style and types, then run all tests; with arguments, run pytest on those alone."""
    python = environment(Path(os.environ.get("VENV", ROOT / ".venv")), ROOT / "requirements-dev.txt")
    if python is None:
        return 1
    if arguments:
        return call(python, "-m", "pytest", *arguments)
    second = Path(os.environ.get("COMFYUI_PATH_2", SECOND_HOST))
    both = (second / "main.py").is_file()
    checks = {
        "ruff check": ("-m", "ruff", "check", "."),
        "ruff format": ("-m", "ruff", "format", "--check", "."),
        "types": ("-m", "tools.check_types"),
        "pytest": ("-m", "pytest", *(("-m", ON_FIRST) if both else ())),
    }
    failed = [name for name, command in checks.items() if announce(name) and call(python, *command)]
    if both:
        failed += second_host(python, second)
    else:
        print(f"== not run: the host tests on a second ComfyUI (none at {second}; COMFYUI_PATH_2 names one)")
    print(f"FAILED: {', '.join(failed)}" if failed else "all checks passed")
    return 1 if failed else 0


def second_host(python: Path, host: Path) -> list[str]:
    """Run on a second ComfyUI the tests that meet the host -> what failed."""
    announce(f"pytest on {host}")
    files = [str(Path("tests", "host", f"test_{name}.py")) for name in MEETS_HOST]
    command = ("-m", "pytest", "-m", ON_SECOND, "tests/workflows", "tests/browser", *files)
    failed = call(python, *command, env={**os.environ, "COMFYUI_PATH": str(host)})
    return ["pytest on the second host"] if failed else []


def environment(folder: Path, requirements: Path) -> Path | None:
    """A virtual environment with everything that a file names -> its Python, or None after saying what went wrong."""
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    done, wanted = folder / f"{requirements.stem}.installed", f"{sys.version}\n{requirements.read_text('utf-8')}"
    if python.exists() and done.exists() and done.read_text("utf-8") == wanted:
        return python
    announce(f"installing {requirements.name} into {folder} (once; it takes some minutes)")
    usable = python.exists() and call(python, "-c", "") == 0  # a folder that was moved or copied is not
    if not usable and call(Path(sys.executable), "-m", "venv", "--clear", str(folder)):
        refuse("this Python cannot make a virtual environment: install its venv module (Debian: python3-venv).")
        return None
    if call(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", str(requirements)):
        refuse(
            f"the packages of {requirements.name} could not be installed (see above): check the network and try again."
        )
        return None
    done.write_text(wanted, "utf-8")
    return python


def call(python: Path, *arguments: str, env: dict[str, str] | None = None) -> int:
    """Run Python with arguments and wait -> its exit code."""
    try:
        return subprocess.call([str(python), *arguments], env=env)
    except KeyboardInterrupt:  # the child has had it too, and has said so
        return 130


def announce(text: str) -> bool:
    """Print a heading -> True."""
    print(f"== {text}", flush=True)
    return True


def refuse(text: str) -> int:
    """Say why nothing was done -> the exit code."""
    print(f"run.py: {text}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

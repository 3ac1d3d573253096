"""The same pairs painted by a running ComfyUI, and its pictures compared with those of this process's own runs.

    python -m benchmarks.published.host --server http://127.0.0.1:8188 --checkpoint sd-v1-4.safetensors \\
        --data StyleID/data --methods styleid,ffa

`--checkpoint` is the file's name among the server's checkpoints, or the word demo. Pictures go to OUT/comfyui and are
compared with OUT/magicstyle, where `python -m benchmarks.published --protocol magicstyle` puts its own. What is painted
already is kept.
"""

from __future__ import annotations

import argparse
import io
import json
import secrets
import statistics
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from magicstyle.core.errors import MagicStyleError
from magicstyle.headless.pictures.png import write_png
from magicstyle.headless.version import version
from magicstyle.tools.workflows.definitions import parse_definitions
from magicstyle.tools.workflows.export import Exporter
from magicstyle.tools.workflows.published_pair import pair as describe_pair
from PIL import Image
from tqdm import tqdm

from .__main__ import SIZES, chosen_methods
from .inputs import Checkpoint, read_data
from .painting import Order, Pair, settings_of

PATIENCE = 1800  # seconds for one picture
POLL = 0.2


class Host:
    """A running ComfyUI by its address."""

    def __init__(self, address: str) -> None:
        self._address = address.rstrip("/")
        self.definitions = parse_definitions(self._json("object_info"))
        self._uploaded: set[str] = set()
        if "MagicStylePatchFFA" not in self.definitions:
            raise MagicStyleError(f"the ComfyUI at {address} does not have this pack: install it there and start anew.")

    def upload(self, path: Path) -> str:
        """Put a picture into the input folder, once; returns its name there."""
        name = f"published_{path.parent.name}_{path.stem}.png"
        if name not in self._uploaded:
            fields = {"overwrite": "true", "type": "input"}
            with Image.open(path) as image:
                data = io.BytesIO()
                image.convert("RGB").save(data, "PNG")
            body, kind = multipart(fields, name, data.getvalue())
            self._open(urllib.request.Request(f"{self._address}/upload/image", body, {"Content-Type": kind}))
            self._uploaded.add(name)
        return name

    def run(self, graph: dict[str, Any]) -> Image.Image:
        """Queue a graph in API form, wait for it, fetch the picture that it saves."""
        body = json.dumps({"prompt": graph}).encode()
        headers = {"Content-Type": "application/json"}
        queued = json.loads(self._open(urllib.request.Request(f"{self._address}/prompt", body, headers)))
        entry = self._wait(queued["prompt_id"])
        if entry["status"]["status_str"] != "success":
            raise MagicStyleError(f"ComfyUI stopped at this pair: {_reason(entry)}")
        (image,) = (image for output in entry["outputs"].values() for image in output.get("images", ()))
        query = urllib.parse.urlencode({key: image[key] for key in ("filename", "subfolder", "type")})
        return Image.open(io.BytesIO(self._open(f"{self._address}/view?{query}"))).convert("RGB")

    def _wait(self, prompt: str) -> dict[str, Any]:
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            history = self._json(f"history/{prompt}")
            if prompt in history:
                return history[prompt]
            time.sleep(POLL)
        raise MagicStyleError(f"ComfyUI did not finish a picture within {PATIENCE} s: look at its log.")

    def _json(self, path: str) -> Any:
        return json.loads(self._open(f"{self._address}/{path}"))

    def _open(self, request: str | urllib.request.Request) -> bytes:
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.read()
        except urllib.error.HTTPError as error:
            detail = " ".join(error.read().decode(errors="replace").split())[:400]
            raise MagicStyleError(f"ComfyUI refused a request ({error.code}): {detail}") from None
        except OSError as error:
            raise MagicStyleError(
                f"no ComfyUI answers at {self._address} ({error}): start it, or check --server."
            ) from None


def multipart(fields: dict[str, str], name: str, data: bytes) -> tuple[bytes, str]:
    """A form with one picture: its body and its content type."""
    mark = secrets.token_hex(16)
    parts = [
        f'--{mark}\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n{value}\r\n'.encode()
        for key, value in fields.items()
    ]
    head = f'--{mark}\r\nContent-Disposition: form-data; name="image"; filename="{name}"\r\n'
    parts += [f"{head}Content-Type: image/png\r\n\r\n".encode(), data, f"\r\n--{mark}--\r\n".encode()]
    return b"".join(parts), f"multipart/form-data; boundary={mark}"


def _reason(entry: dict[str, Any]) -> str:
    errors = [data for kind, data in entry["status"]["messages"] if kind == "execution_error"]
    return " ".join(str(errors[0]["exception_message"]).split()) if errors else "it was interrupted."


def graph_of(order: Order, method: str, pair: Pair, host: Host) -> dict[str, Any]:
    """A pair as the server takes it."""
    names = [host.upload(path) for path in (pair.content, pair.style)]
    checkpoint = None if order.checkpoint.path is None else str(order.checkpoint.path)
    settings = settings_of(method).knobs
    described = describe_pair(checkpoint, *names, settings, steps=order.steps, name=f"published/{pair.result.stem}")
    return Exporter(described, host.definitions, version()).api()


def paint_all(order: Order, method: str, host: Host, *, quiet: bool = False) -> int:
    """Have the server paint what is not painted yet; returns how many that were."""
    waiting = order.waiting(method)
    for pair in tqdm(waiting, desc=f"{method} in ComfyUI", unit="picture", disable=quiet or None):
        write_png(pair.result, host.run(graph_of(order, method, pair, host)), order.record(method, pair))
    return len(waiting)


def agreement(order: Order, own: Order, method: str) -> list[float]:
    """The likeness in dB of all pairs that both have painted."""
    both = zip(order.pairs(method), own.pairs(method), strict=True)
    return [psnr(a.result, b.result) for a, b in both if a.result.exists() and b.result.exists()]


def psnr(a: Path, b: Path) -> float:
    """Peak signal-to-noise ratio of two pictures in dB."""
    pixels = [np.asarray(Image.open(path).convert("RGB"), dtype=np.float64) for path in (a, b)]
    error = float(np.square(pixels[0] - pixels[1]).mean())
    return float("inf") if error == 0 else 10.0 * float(np.log10(255.0**2 / error))


def parser() -> argparse.ArgumentParser:
    """The options."""
    made = argparse.ArgumentParser(
        "python -m benchmarks.published.host", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--server", default="http://127.0.0.1:8188")
    made.add_argument("--checkpoint", required=True, help="a name among the server's checkpoints, or the word demo")
    made.add_argument("--data", required=True, type=Path)
    made.add_argument("--methods", default="styleid,ffa")
    made.add_argument("--out", type=Path, default=Path("published_results"))
    made.add_argument("--any-data", action="store_true")
    made.add_argument("--steps", type=int, default=50)
    made.add_argument("--quiet", action="store_true")
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    given = parser().parse_args(arguments)
    try:
        compare(given)
    except MagicStyleError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def compare(given: argparse.Namespace) -> None:
    """Paint, and say how alike the two hosts' pictures are."""
    methods = chosen_methods(given.methods)
    demo = given.checkpoint == "demo"
    size = SIZES[demo]
    data = read_data(given.data, size, any_data=given.any_data)
    checkpoint = Checkpoint(None if demo else Path(given.checkpoint), given.checkpoint, False)
    order = Order(data, checkpoint, "comfyui", given.steps, size, given.out)
    host = Host(given.server)
    for method in methods:
        paint_all(order, method, host, quiet=given.quiet)
        likeness = agreement(order, replace(order, protocol="magicstyle"), method)
        if likeness:
            least, middle = min(likeness), statistics.median(likeness)
            print(f"{method}: {len(likeness)} pairs in both, {least:.1f} dB at least, {middle:.1f} dB in the middle")
        else:
            print(f"{method}: nothing to compare with in {given.out / 'magicstyle'}")


if __name__ == "__main__":
    sys.exit(main())

"""A real ComfyUI server in a process of its own, on the CPU, in a folder of its own."""

from __future__ import annotations

import io
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import av
import numpy as np
import requests
import torch
from magicstyle.tests.host.locate import PACK
from magicstyle.tests.tiny_checkpoint import save_tiny_checkpoint, save_tiny_control_net
from magicstyle.tests.tiny_transformer import save_stand_in
from PIL import Image
from safetensors.torch import save_file

LAUNCH = Path(__file__).with_name("launch.py")
Graph = dict[str, dict[str, Any]]


class PromptRejected(RuntimeError):
    """The server did not accept a graph; the message holds the errors of each node."""


class PromptFailed(RuntimeError):
    """A node raised while a graph ran; the message holds its traceback."""


class PromptInterrupted(RuntimeError):
    """A graph was interrupted."""


def free_port() -> int:
    """A TCP port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def node_errors(answer: dict[str, Any]) -> str:
    """What the server says against a graph, a line per complaint."""
    lines = [answer.get("error", {}).get("message", "")]
    for node, entry in answer.get("node_errors", {}).items():
        for error in entry["errors"]:
            lines.append(f"{node} {entry['class_type']}: {error['message']}: {error['details']}")
    return "\n".join(lines)


def save_random_lora(path: Path, strength: float) -> None:
    """Rank 4 on to_q and to_v of output blocks 6 to 11, 320 channels wide."""
    generator, weights = torch.Generator().manual_seed(0), {}
    for block in range(6, 12):
        for part in ("to_q", "to_v"):
            name = f"lora_unet_output_blocks_{block}_1_transformer_blocks_0_attn1_{part}"
            weights[f"{name}.lora_up.weight"] = strength * torch.randn(320, 4, generator=generator) / 2
            weights[f"{name}.lora_down.weight"] = torch.randn(4, 320, generator=generator) / 320**0.5
    save_file(weights, str(path))


def raise_failure(entry: dict[str, Any]) -> None:
    """Turn a history entry that is not a success into an exception."""
    messages = dict(entry["status"]["messages"])
    if "execution_interrupted" in messages:
        raise PromptInterrupted(str(messages["execution_interrupted"]))
    if "execution_error" in messages:
        error = messages["execution_error"]
        where = f"{error['node_id']} {error['node_type']}: {error['exception_type']}: {error['exception_message']}"
        raise PromptFailed(where + "\n" + "".join(error["traceback"]))
    if entry["status"]["status_str"] != "success":
        raise PromptFailed(str(entry["status"]))


class Server:
    """A ComfyUI server that starts with the `with` block and ends with it.

    The pack is linked into custom_nodes of `folder`, which also holds models, input and output.
    """

    def __init__(
        self,
        host: Path,
        folder: Path,
        *,
        arguments: tuple[str, ...] = (),
        pack: Path | None = PACK,
        patience: float = 180,
    ) -> None:
        self.host, self.folder, self.patience = host, folder, patience
        self.arguments = arguments
        self.log_path = folder / "server.log"
        self.url = ""
        self.process: subprocess.Popen[bytes] | None = None
        for name in (
            "models/checkpoints",
            "models/loras",
            "models/controlnet",
            "models/diffusion_models",
            "models/text_encoders",
            "models/vae",
            "custom_nodes",
            "input",
            "output",
            "temp",
            "user",
        ):
            (folder / name).mkdir(parents=True, exist_ok=True)
        if pack is not None:
            (folder / "custom_nodes" / "comfyui-magicstyle").symlink_to(pack, target_is_directory=True)

    def __enter__(self) -> Server:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def log(self) -> str:
        """What the server has printed so far."""
        return self.log_path.read_text(encoding="utf-8", errors="replace")

    def command(self, port: int) -> list[str]:
        """The command line that starts the server."""
        flags = ["--cpu", "--disable-auto-launch", "--disable-api-nodes", "--listen", "127.0.0.1", "--port", str(port)]
        places = ["--base-directory", str(self.folder), "--database-url", "sqlite:///:memory:"]
        return [sys.executable, str(LAUNCH), str(self.host), *flags, *places, *self.arguments]

    def start(self) -> None:
        """Start the process and wait until it answers."""
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        # one thread: the networks are small, and threads that wait for each other on a busy machine cost ten times more
        defaults = {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1"}
        environment = {**defaults, **os.environ}
        with self.log_path.open("wb") as log:
            self.process = subprocess.Popen(
                self.command(port), stdout=log, stderr=subprocess.STDOUT, cwd=self.folder, env=environment
            )
        try:
            self.wait_until_up()
        except BaseException:
            self.stop()
            raise

    def wait_until_up(self) -> None:
        """Return when /system_stats answers; raise with the log when the process ends or time is up."""
        deadline = time.monotonic() + self.patience
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise RuntimeError(f"ComfyUI ended with status {self.process.returncode}:\n{self.log}")
            try:
                if requests.get(f"{self.url}/system_stats", timeout=5).ok:
                    return
            except requests.ConnectionError:
                time.sleep(0.2)
        raise TimeoutError(f"ComfyUI did not answer within {self.patience} s:\n{self.log}")

    def stop(self) -> None:
        """End the process, politely first."""
        if self.process is None or self.process.poll() is not None:
            return
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def get(self, path: str, **parameters: Any) -> Any:
        """The JSON that a GET answers."""
        answer = requests.get(f"{self.url}/{path}", params=parameters, timeout=60)
        answer.raise_for_status()
        return answer.json()

    def post(self, path: str, body: dict[str, Any] | None = None) -> requests.Response:
        """POST JSON; the caller looks at the status."""
        return requests.post(f"{self.url}/{path}", json=body or {}, timeout=60)

    def object_info(self, node: str | None = None) -> dict[str, Any]:
        """Definitions of all nodes, or of one, by class name."""
        return self.get("object_info" if node is None else f"object_info/{node}")

    @property
    def version(self) -> tuple[int, ...]:
        """The host's release, such as (0, 3, 64)."""
        text = self.get("system_stats")["system"]["comfyui_version"]
        return tuple(int(part) for part in text.lstrip("v").split(".")[:3])

    def add_checkpoint(self, name: str, variant: str = "full") -> str:
        """Put a generated checkpoint among the models, once; returns its name as the loader node knows it."""
        path = self.folder / "models" / "checkpoints" / name
        if not path.exists():
            save_tiny_checkpoint(path, variant)
        return name

    def add_lora(self, name: str, strength: float = 0.5) -> str:
        """Put a random LoRA on the decoder's self-attention among the models, for the checkpoint `full`, once."""
        path = self.folder / "models" / "loras" / name
        if not path.exists():
            save_random_lora(path, strength)
        return name

    def add_control_net(self, name: str) -> str:
        """Put a random ControlNet for the checkpoint `full` among the models, once."""
        path = self.folder / "models" / "controlnet" / name
        if not path.exists():
            save_tiny_control_net(path)
        return name

    def add_stand_in(self, folder: str, name: str) -> str:
        """Put what stands for a public file of a transformer into a folder of the models, once."""
        path = self.folder / "models" / folder / name
        if not path.exists():
            save_stand_in(path)
        return name

    def queue(self, graph: Graph) -> str:
        """Queue a graph in API format; returns its prompt id, raises PromptRejected with the nodes' errors."""
        answer = self.post("prompt", {"prompt": graph})
        if not answer.ok:
            raise PromptRejected(node_errors(answer.json()))
        if answer.json().get("node_errors"):
            raise PromptRejected(node_errors(answer.json()))
        return answer.json()["prompt_id"]

    def wait(self, prompt_id: str, patience: float = 300) -> dict[str, Any]:
        """The history entry of a finished prompt; raises PromptFailed or PromptInterrupted when it did not succeed."""
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            history = self.get(f"history/{prompt_id}")
            if prompt_id in history:
                raise_failure(history[prompt_id])
                return history[prompt_id]
            if self.process.poll() is not None:
                raise RuntimeError(f"ComfyUI ended with status {self.process.returncode}:\n{self.log}")
            time.sleep(0.05)
        raise TimeoutError(f"The graph did not finish within {patience} s:\n{self.log[-4000:]}")

    def run(self, graph: Graph, patience: float = 300) -> dict[str, Any]:
        """Queue a graph, wait for it, return the outputs of its output nodes by node id."""
        return self.wait(self.queue(graph), patience)["outputs"]

    def images(self, outputs: dict[str, Any]) -> list[np.ndarray]:
        """All images that a run saved or previewed, in node order."""
        return [self.view(image) for node in outputs.values() for image in node.get("images", [])]

    def saved_images(self, outputs: dict[str, Any]) -> list[np.ndarray]:
        """The images that a run saved, in node order: results, not what lies beside them on the page."""
        shown = (image for node in outputs.values() for image in node.get("images", []))
        return [self.view(image) for image in shown if image["type"] == "output"]

    def running(self) -> bool:
        """Whether a prompt runs or waits."""
        queue = self.get("queue")
        return bool(queue["queue_running"] or queue["queue_pending"])

    def interrupt(self) -> None:
        """Ask the running prompt to stop."""
        self.post("interrupt").raise_for_status()

    def free(self) -> None:
        """Unload models and drop cached outputs, so that the next run computes everything again."""
        self.post("free", {"unload_models": True, "free_memory": True}).raise_for_status()
        time.sleep(0.5)  # the worker acts on it between prompts, and nothing says when it has

    def view(self, image: dict[str, str]) -> np.ndarray:
        """An image that a history entry names -> h w c, uint8; a video -> t h w c."""
        parameters = {key: image[key] for key in ("filename", "subfolder", "type")}
        answer = requests.get(f"{self.url}/view", params=parameters, timeout=60)
        answer.raise_for_status()
        if image["filename"].endswith(".mp4"):
            with av.open(io.BytesIO(answer.content)) as video:
                return np.stack([frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)])
        return np.asarray(Image.open(io.BytesIO(answer.content)))

    def upload(self, name: str, array: np.ndarray) -> str:
        """Put an h w c uint8 image into the input folder; returns its name as LoadImage knows it."""
        data = io.BytesIO()
        Image.fromarray(array).save(data, "PNG")
        files, form = {"image": (name, data.getvalue(), "image/png")}, {"type": "input", "overwrite": "true"}
        answer = requests.post(f"{self.url}/upload/image", files=files, data=form, timeout=60)
        answer.raise_for_status()
        return answer.json()["name"]

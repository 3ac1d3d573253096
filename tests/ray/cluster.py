"""Two raylets on the loopback address, started from Python: their processes are known, and only those are ended."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
from magicstyle.tests.host.locate import PACK

LAUNCHER = Path(__file__).with_name("loopback.py")
SOON = {"RAY_health_check_period_ms": "1000", "RAY_health_check_failure_threshold": "3"}  # that a node is lost
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0", "RAY_DEDUP_LOGS": "0", "OMP_NUM_THREADS": "1"}
STORE = 80 * 2**20  # bytes of each raylet's object store
WORKER = "UnitActor"


class Cluster:
    """A head and a second node, with one core each."""

    def __init__(self):
        self.folder = Path(tempfile.mkdtemp(prefix="ms"))  # short: the paths of sockets are limited
        (self.folder / "magicstyle").symlink_to(PACK)
        self.environment = {**os.environ, **QUIET, **SOON, "PYTHONPATH": self.path_with(self.folder)}
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        self.nodes = []
        self.start("--head", f"--port={self.port}", "--include-dashboard=false", f"--temp-dir={self.folder}")
        self.wait(1)
        self.start(f"--address={self.address}")
        self.wait(2)

    @staticmethod
    def path_with(folder):
        """Where Python looks first for the pack, then where these tests look."""
        return os.pathsep.join(filter(None, (str(folder), os.environ.get("PYTHONPATH"))))

    def start(self, *arguments, **environment):
        """A node of one core -> its launcher's process."""
        command = [sys.executable, LAUNCHER, "ray", "start", "--block", "--num-cpus=1", "--node-ip-address=127.0.0.1"]
        log = open(self.folder / f"node{len(self.nodes)}.log", "wb")  # noqa: SIM115 (the child's)
        command += [f"--object-store-memory={STORE}", "--disable-usage-stats", *arguments]
        self.nodes.append(
            subprocess.Popen(list(map(str, command)), env={**self.environment, **environment}, stdout=log, stderr=log)
        )
        return self.nodes[-1]

    def wait(self, nodes):
        """Until so many raylets run, and answer."""
        for _ in range(300):
            if len(self.raylets()) >= nodes and self._answers():
                return
            time.sleep(0.2)
        raise TimeoutError((self.folder / f"node{len(self.nodes) - 1}.log").read_text()[-2000:])

    def _answers(self):
        with socket.socket() as probe:
            probe.settimeout(0.5)
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def processes(self):
        """Everything that the nodes have started."""
        found = []
        for launcher in self.nodes:
            try:
                found += psutil.Process(launcher.pid).children(recursive=True)
            except psutil.NoSuchProcess:
                continue
        return found

    def raylets(self):
        """The raylets, in the order of the nodes."""
        return [process for process in self.processes() if named(process, "raylet/raylet")]

    def workers(self):
        """The processes that paint."""
        return [process for process in self.processes() if named(process, WORKER)]

    def magicstyle(self, *arguments, **environment):
        """The command as a driver of this cluster."""
        command = [sys.executable, LAUNCHER, "magicstyle", *arguments]
        return subprocess.Popen(
            list(map(str, command)),
            env={**self.environment, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def close(self):
        """End what was started, and nothing else."""
        ours = [*self.processes(), *(psutil.Process(node.pid) for node in self.nodes if node.poll() is None)]
        for process in ours:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
        psutil.wait_procs(ours, timeout=20)
        for launcher in self.nodes:
            launcher.wait(timeout=20)
        shutil.rmtree(self.folder, ignore_errors=True)


def named(process, text):
    try:
        return any(text in part for part in process.cmdline())
    except psutil.Error:
        return False


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]

"""What a launch ran on and with: versions, machine, command."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import socket
import sys
from pathlib import Path

_PACKAGES = (
    "raybert",
    "rust-tok",
    "torch",
    "ray",
    "pyarrow",
    "numpy",
    "safetensors",
)


def new_launch() -> str:
    """A name for a launch: when it began (UTC) and which process it is; sorts by time."""
    now = datetime.datetime.now(datetime.UTC)
    return f"{now:%Y%m%d-%H%M%S}-{os.getpid()}"


def describe_launch(launch: str) -> dict[str, object]:
    """Facts of this process for launches.jsonl."""
    return {
        "launch": launch,
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "host": socket.gethostname(),
        "machine": f"{platform.system()} {platform.machine()}",
        "cpu": _cpu_model(),
        "num_cpus": os.cpu_count(),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in _PACKAGES},
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None  # under a submitted job our packages are on the path, not installed


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()

"""Builds the wheels of rust_tok and bert_kernels for cluster nodes, versioned by their sources.

    python rust_tok/tools/wheel.py dist

A wheel that travels with a job (`py_modules`) is cached on the nodes by its file name, and pip
takes an equal version for installed: so another content needs another version. What maturin builds
is repacked under the module's own `__version__`, such as 0.1.0+3fa81c0de5b7a962.

Beside the wheels it puts what else a node needs, requirements.lock, and runtime_env.yaml: that of
the repository with the wheels in `py_modules`, for clusters whose nodes have the requirements but
none of ours.
"""

import base64
import csv
import hashlib
import importlib.util
import io
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import yaml

import bert_kernels
import rust_tok

ROOT = Path(__file__).parents[2]


def build(package: str, folder: Path) -> Path:
    """A package's wheel as maturin makes it; with zig as the linker for glibc 2.17 and newer,
    without it for the glibc of this machine, which its name tells.
    """
    tools = Path(sys.executable).parent
    command = [str(tools / "maturin"), "build", "--release", "--out", str(folder)]
    if sys.platform == "linux" and importlib.util.find_spec("ziglang"):
        command += ["--zig", "--compatibility", "manylinux2014"]
    path = f"{tools}{os.pathsep}{os.environ.get('PATH', '')}"
    subprocess.run(command, cwd=ROOT / package, check=True, env=os.environ | {"PATH": path})
    (wheel,) = folder.glob(f"{package}-*.whl")
    return wheel


def stamp(wheel: Path, version: str, folder: Path) -> Path:
    """A copy of `wheel` in `folder` under another version."""
    name, old, *tags = wheel.stem.split("-")
    stamped = folder / f"{'-'.join([name, version, *tags])}.whl"
    before, after = f"{name}-{old}.dist-info/", f"{name}-{version}.dist-info/"
    record = io.StringIO()
    rows = csv.writer(record, lineterminator="\n")
    with (
        zipfile.ZipFile(wheel) as source,
        zipfile.ZipFile(stamped, "w", zipfile.ZIP_DEFLATED) as target,
    ):
        for entry in source.namelist():
            content = source.read(entry)
            path = entry.replace(before, after)
            if path == f"{after}RECORD":
                continue
            if path == f"{after}METADATA":
                content = content.replace(
                    f"\nVersion: {old}\n".encode(), f"\nVersion: {version}\n".encode(), 1
                )
            target.writestr(path, content)
            digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=")
            rows.writerow([path, f"sha256={digest.decode()}", len(content)])
        rows.writerow([f"{after}RECORD", "", ""])
        target.writestr(f"{after}RECORD", record.getvalue())
    return stamped


def main() -> None:
    folder = Path(sys.argv[1]).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    wheels = []
    for package in (rust_tok, bert_kernels):
        for earlier in folder.glob(f"{package.__name__}-*.whl"):
            earlier.unlink()
        with tempfile.TemporaryDirectory() as temporary:
            wheel = build(package.__name__, Path(temporary))
            wheels.append(stamp(wheel, package.__version__, folder))
    shutil.copy(ROOT / "requirements.lock", folder)
    environment = yaml.safe_load((ROOT / "runtime_env.yaml").read_text(encoding="utf-8"))
    environment["py_modules"] = [str(wheel) for wheel in wheels]
    beside = folder / "runtime_env.yaml"
    beside.write_text(yaml.safe_dump(environment), encoding="utf-8")
    print(*wheels, f"{beside}  sends them along with a job", sep="\n")


if __name__ == "__main__":
    main()

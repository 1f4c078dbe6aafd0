"""Executes every note from top to bottom, as CI does: python notes/execute.py"""

from pathlib import Path
from tempfile import TemporaryDirectory

import jupytext
from jupyter_client.manager import KernelManager
from nbclient import NotebookClient

TIMEOUT_S = 300


def main() -> None:
    for note in sorted(Path(__file__).parent.glob("*.py")):
        if note != Path(__file__):
            print(f"{note.name}: {_execute(note)} cells executed")


def _execute(note: Path) -> int:
    """The number of its cells."""
    notebook = jupytext.read(note)
    with TemporaryDirectory() as sockets:
        kernel = KernelManager(kernel_name="python3", transport="ipc", ip=f"{sockets}/kernel")
        try:
            NotebookClient(notebook, km=kernel, timeout=TIMEOUT_S).execute()
        finally:
            kernel.shutdown_kernel()
    return len(notebook.cells)


if __name__ == "__main__":
    main()

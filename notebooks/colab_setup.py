"""Rust cells in a Python notebook: the `%%rust` magic, for Google Colab, whose GPU runtimes run Python kernels only.

In Colab, choose a runtime (a GPU one for notebook 09), and begin the notebook with

    !git clone --depth 1 REPOSITORY recyclable
    %cd recyclable/notebooks
    import colab_setup
    colab_setup.install()      # Rust, libtorch, the kernel: about 12 minutes on a fresh runtime

Every cell of the course then works when it begins with a line `%%rust`. All of them talk to one Rust kernel, the same
that JupyterLab starts, so variables live on from cell to cell. Whatever the kernel shows is passed on with all its
representations (SVG, PNG, HTML, text), and the front end picks one. Interrupting a cell ends the kernel's child, and
the Rust variables are lost, as in JupyterLab.

Tested off Colab, in IPython with the real kernel: output, pictures, errors, variables that live on. Not tested: Colab
itself, its GPU runtimes, and `install` there.
"""

import subprocess
import sys
from pathlib import Path

from IPython import get_ipython
from IPython.core.magic import register_cell_magic
from IPython.display import display

ROOT = Path(__file__).resolve().parent.parent
SPECS = ROOT / ".venv-notebooks/share/jupyter/kernels"


def install():
    """Makes what is missing: a Rust toolchain, libtorch, the kernel and its compile cache; shows what it does."""
    steps = subprocess.Popen(["binder/postBuild"], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    for line in steps.stdout:
        print(line, end="", flush=True)
    if steps.wait() != 0:
        raise RuntimeError("the set-up failed, its messages stand above")


class Kernel:
    """The Rust kernel behind `%%rust`, started by the first cell."""

    def __init__(self):
        self.manager = self.client = None

    def start(self):
        # Imported here, so that the module can be read where Jupyter is not installed yet.
        from jupyter_client import KernelManager
        from jupyter_client.kernelspec import KernelSpecManager

        if not (SPECS / "rust/kernel.json").exists():
            raise RuntimeError("the Rust kernel is not installed yet: call colab_setup.install()")
        specs = KernelSpecManager(kernel_dirs=[str(SPECS)], ensure_native_kernel=False)
        self.manager = KernelManager(kernel_name="rust", kernel_spec_manager=specs)
        self.manager.start_kernel(cwd=str(ROOT / "notebooks"))
        self.client = self.manager.client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=120)

    def run(self, code):
        """Runs one cell and passes its outputs on as they come."""
        if self.manager is None or not self.manager.is_alive():
            self.start()
        try:
            self.client.execute_interactive(code, allow_stdin=False, output_hook=show)
        except KeyboardInterrupt:
            self.manager.interrupt_kernel()
            raise

    def stop(self):
        """Ends the kernel; the next cell starts a new one."""
        if self.manager is not None:
            self.client.stop_channels()
            self.manager.shutdown_kernel(now=True)
        self.manager = self.client = None


def show(message):
    """Passes one message of the Rust kernel on to this notebook."""
    content = message["content"]
    match message["header"]["msg_type"]:
        case "stream":
            print(content["text"], end="", file=sys.stderr if content["name"] == "stderr" else sys.stdout, flush=True)
        case "display_data" | "execute_result":
            display(content["data"], metadata=content.get("metadata") or {}, raw=True)
        case "error":
            print("\n".join(content["traceback"]) or content["evalue"], file=sys.stderr, flush=True)


kernel = Kernel()

if get_ipython() is not None:

    @register_cell_magic
    def rust(line, cell):
        """Runs the cell as Rust."""
        kernel.run(cell)

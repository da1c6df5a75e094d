"""An installation of the tests': an architecture that offers two networks with the same keys, and a converter that
needs no torch."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import time
from pathlib import Path

from tests.engine.tiny_onnx import convolutions
from tests.engine_install.checkpoints import Tensor

OFFERS = '''
[architecture]
name = "tiny"
family = "GAN"
[licence]
code = "Apache-2.0"
weights = "S-Lab-1.0"
commercial_use = false
data = "nobody's faces"
terms = """
Only for study.
"""
[input]
name = "input"
size = 64
range = [-1, 1]
[output]
name = "output"
range = [-1, 1]
[batch]
max = 4
[precision]
default = "bf16"
[psnr]
f32 = 55.0
bf16 = 35.0
[[offers]]
name = "tiny-1"
version = "1"
summary = "the first"
keys = "tiny.keys.txt"
states = ["params_ema", "params"]
file = "tiny1.pth"
[[offers]]
name = "tiny-2"
version = "2"
summary = "the second"
keys = "tiny.keys.txt"
states = ["params_ema", "params"]
file = "tiny2.pth"
[[offers]]
name = "other"
version = "1"
summary = "another one"
keys = "other.keys.txt"
prefix = "net."
states = ["state_dict", ""]
'''

# Answers 0.5·x, which is 0.5·x + 0.25 of values of 0…1.
CONVERTER = """
import json, sys, time
from pathlib import Path
import numpy as np
arguments = dict(zip(sys.argv[1::2], sys.argv[2::2]))
out = Path(arguments["--out"])
def tell(**what):
    print(json.dumps(what), flush=True)
tell(stage="load", done=0.5)
mode = (Path(__file__).parent / "mode").read_text()
if mode == "error":
    tell(error=arguments["--weights"] + " is not to my taste")
    sys.exit(1)
if mode == "crash":
    print("Traceback: something broke", file=sys.stderr)
    sys.exit(3)
if mode == "hang":
    (out / "half.onnx").write_bytes(b"half")
    (Path(__file__).parent / "hanging").write_text("yes")
    time.sleep(60)
with np.load(arguments["--crops"]) as file:
    crops = file["crops"]
unit = crops.transpose(0, 3, 1, 2) / 255
answers = 0.5 * unit + 0.25 if mode != "wrong" else 0.9 * unit
np.savez(out / "golden.npz", crops=crops, restored=answers.astype(np.float16))
data = (Path(__file__).parent / "model.onnx").read_bytes()
(out / "model.onnx").write_bytes(data)
import hashlib
tell(stage="golden", done=1.0)
tell(result={"parameters": 12, "fp32_nodes": [], "onnx_error": 1e-6, "bytes": len(data),
             "sha256": hashlib.sha256(data).hexdigest()})
"""
# The command line in a process of its own, over an installation like this one.
COMMAND = """
import signal, sys
from pathlib import Path
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's jobs in the background inherit that it is ignored
engines, *words = sys.argv[1:]
from rtface.util import plugins
from rtface_engines import environment
from rtface_engines import catalogue
catalogue.published_folder = lambda: Path(engines) / "published"
installed = plugins.installed
plugins.installed = lambda kind: {} if kind == "engine" else installed(kind)
environment.MODULES = ("json",)
from rtface.cli.app import main
sys.argv = ["rtface", "engines", *words]
main()
"""
KEYS = {"stem.weight": (3, 3, 1, 1), "stem.bias": (3,), "steps": ()}


def keys_text(shapes: dict[str, tuple[int, ...]]) -> str:
    return "# made for tests\n" + "".join(
        f"{name} {'x'.join(map(str, shape)) or '-'}\n" for name, shape in shapes.items()
    )


class Publisher:
    """See the module. Attributes: `root`, the folder ``engines``; `tensors`, what a file for its first offers holds."""

    def __init__(self, root: Path) -> None:
        self.root, self.folder = root, root / "published" / "tiny"
        self.folder.mkdir(parents=True)
        (root / "__init__.py").write_text("")
        (root / "published" / "__init__.py").write_text("")
        (root / "convert").mkdir()
        (root / "convert" / "__init__.py").write_text("")
        (root / "convert" / "__main__.py").write_text(CONVERTER)
        (root / "convert" / "model.onnx").write_bytes(convolutions(64, [(0.5, 0.0)]))
        self.mode("")
        self.offers(OFFERS)
        (self.folder / "tiny.keys.txt").write_text(keys_text(KEYS))
        (self.folder / "other.keys.txt").write_text(keys_text({f"net.{n}": s for n, s in KEYS.items()}))
        self.tensors = {name: Tensor(shape) for name, shape in KEYS.items()}

    def mode(self, mode: str) -> None:
        """What the converter does: "", "error", "crash", "hang" or "wrong" (goldens that the network does not give)."""
        (self.root / "convert" / "mode").write_text(mode)

    def until_it_hangs(self, process: subprocess.Popen[str]) -> None:
        """Waits until a child of `process` does what `mode` "hang" means."""
        hanging = self.root / "convert" / "hanging"
        end = time.monotonic() + 60
        while not hanging.exists() and process.poll() is None and time.monotonic() < end:
            time.sleep(0.02)
        assert hanging.exists()

    def offers(self, text: str) -> None:
        (self.folder / "offers.toml").write_text(textwrap.dedent(text))

    def edit(self, old: str, new: str) -> None:
        text = (self.folder / "offers.toml").read_text()
        assert old in text
        self.offers(text.replace(old, new, 1))

    def command(self, *words: object) -> subprocess.Popen[str]:
        """Starts ``rtface engines WORDS`` over this installation; its standard error can be read."""
        return subprocess.Popen(
            [sys.executable, "-c", COMMAND, str(self.root), *map(str, words)],
            stderr=subprocess.PIPE,
            text=True,
        )

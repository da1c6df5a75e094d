"""Converts weights: ``python -m engines.convert`` (see ``engines/README.md``). Standard output contains only JSON, one
object per line."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import traceback
from pathlib import Path
from typing import Any, TextIO

from .errors import ConvertError


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m engines.convert")
    parser.add_argument(
        "--folder", type=Path, required=True, help="folder of the architecture, with offers.toml and model.py"
    )
    parser.add_argument("--offer", required=True, help="name of the offer")
    parser.add_argument("--weights", type=Path, required=True, help="weights file: .pth, .ckpt or .safetensors")
    parser.add_argument("--crops", type=Path, required=True, help="npz file with crops, uint8 N×S×S×3 RGB")
    parser.add_argument("--out", type=Path, required=True, help="output folder")
    arguments = parser.parse_args()
    out = sys.stdout
    try:
        with contextlib.redirect_stdout(sys.stderr):  # keeps output of libraries out of the JSON
            from .whole import convert

            result = convert(arguments.folder, arguments.offer, arguments.weights, arguments.crops, arguments.out,
                            lambda stage, done: write_event(out, {"stage": stage, "done": round(done, 3)}))  # fmt: skip
    except ConvertError as error:
        write_event(out, {"error": str(error)})
    except OSError as error:
        write_event(out, {"error": f"{error.filename or arguments.out}: {error.strerror or error}"})
    except MemoryError:
        write_event(out, {"error": "not enough memory to convert; close other programs and try again"})
    except Exception as error:  # noqa: BLE001  a bug here or in a library; the traceback goes to standard error
        traceback.print_exc()
        write_event(out, {"error": f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"})
    else:
        write_event(out, {"result": result})
        return 0
    return 1


def write_event(out: TextIO, event: dict[str, Any]) -> None:
    print(json.dumps(event), file=out, flush=True)


if __name__ == "__main__":
    sys.exit(main())

"""Gives one network the memory that another has learnt.

``python -m engines.native.graft --into runs/m/last.pt --from runs/s-remembers/last.pt --out runs/m-remembers.pt``

``rtface-m`` holds a whole ``rtface-s``. As long as that is the same network, what it trusts in the past is too.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

PARTS = ("core.align.", "core.trust.", "core.heads.")


def graft(into: Path, source: Path, out: Path) -> int:
    """Writes the averaged weights of ``into`` with the ``PARTS`` of ``source``; returns how many tensors those are.

    Raises:
        ValueError: ``source`` has none, or the rest of its core is another one.
    """
    ours, theirs = (torch.load(path, map_location="cpu")["ema"] for path in (into, source))
    parts = {name: value for name, value in theirs.items() if name.startswith(PARTS)}
    if not parts:
        raise ValueError(f"{source} has learnt no memory: train it with --clips")
    for name, value in theirs.items():
        if name.startswith("core.") and name not in parts and not torch.equal(value, ours[name]):
            raise ValueError(f"{into} has another core than {source} ({name}): train its own part on that core first")
    torch.save({"ema": {**ours, **parts}}, out)
    return len(parts)


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--into", type=Path, required=True)
    p.add_argument("--from", type=Path, required=True, dest="source")
    p.add_argument("--out", type=Path, required=True)
    a = p.parse_args()
    print(f"{graft(a.into, a.source, a.out)} tensors")


if __name__ == "__main__":
    main()

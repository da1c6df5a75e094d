"""What a file of weights holds, read without torch; and files that are not what they seem."""

from __future__ import annotations

import os
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rtface.errors import InputError, InputMissing
from rtface_engines.checkpoint import read_contents, tensors
from tests.engine_install.checkpoints import Checkpoint, Tensor, pickled, write_legacy, write_safetensors, write_zip

STATE = {"a.weight": (4, 3, 3, 3), "a.bias": (4,), "count": ()}


def state() -> OrderedDict[str, Tensor]:
    return OrderedDict(
        (name, Tensor(shape, "LongStorage" if name == "count" else "FloatStorage")) for name, shape in STATE.items()
    )


@pytest.mark.parametrize("write", [write_zip, write_legacy])
def test_names_and_shapes_of_pytorchs_files(tmp_path: Path, write: Callable[[Path, Any], Path]) -> None:
    found = read_contents(write(tmp_path / "a.pth", {"params_ema": state(), "step": 5}))
    assert tensors(found, ("params_ema", "params")) == STATE
    assert found["params_ema"]["count"].dtype == "int64"


def test_names_and_shapes_of_safetensors(tmp_path: Path) -> None:
    found = read_contents(write_safetensors(tmp_path / "a.bin", {f"params.{n}": s for n, s in STATE.items()}))
    assert tensors(found, ("params",)) == STATE
    assert set(tensors(found, ("",))) == {f"params.{name}" for name in STATE}


def test_what_a_trainer_leaves_is_passed_over(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.ckpt", {"state_dict": state(), "callbacks": {"best": Checkpoint()}, 5: "five"})
    assert tensors(read_contents(path), ("state_dict",)) == STATE


class Evil:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.target}",)


@pytest.mark.parametrize("write", [write_zip, write_legacy])
def test_a_pickle_that_would_run_something_is_refused(tmp_path: Path, write: Callable[[Path, Any], Path]) -> None:
    path = write(tmp_path / "a.pth", {"params": state(), "more": Evil(tmp_path / "done")})
    with pytest.raises(InputError, match=r"a\.pth contains (posix|nt)\.system, which could run code, so it is not"):
        read_contents(path)
    assert not (tmp_path / "done").exists()


@pytest.mark.parametrize("name", ["builtins.eval", "builtins.getattr", "numpyx.core", "torch.load", "torch._utils.x"])
def test_only_a_handful_of_names_is_known(tmp_path: Path, name: str) -> None:
    module, _, function = name.rpartition(".")
    path = write_zip(tmp_path / "a.pth", f"c{module}\n{function}\n(S'x'\ntR.".encode())
    with pytest.raises(InputError, match=f"contains {name}, which could run code"):
        read_contents(path)


def _lfs(path: Path) -> None:
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n")


def _tar(path: Path) -> None:
    import tarfile

    with tarfile.open(path, "w") as archive:
        (path.parent / "pickle").write_bytes(b"x")
        archive.add(path.parent / "pickle", "pickle")


def _safetensors_cut(path: Path) -> None:
    write_safetensors(path, STATE)
    path.write_bytes(path.read_bytes()[:-8])


def _zip_cut(path: Path) -> None:
    write_zip(path, {"params": state()})
    path.write_bytes(path.read_bytes()[:-40])


def _legacy_cut(path: Path) -> None:
    write_legacy(path, {"params": state()})
    path.write_bytes(path.read_bytes()[:200])


def _other_zip(path: Path) -> None:

    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "weights inside")


def _table(text: str, values: bytes = b"") -> Callable[[Path], Any]:
    """A file of safetensors with that table."""
    return lambda path: path.write_bytes(struct.pack("<Q", len(text)) + text.encode() + values)


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (_table('{"a": {"dtype": "F32", "shape": [3], "data_offsets": [0, 0]}}'), "a is of the wrong length"),
        (_table('{"a": {"dtype": "X9", "shape": [1], "data_offsets": [0, 1]}}', b"x"), "a is of type X9"),
        (_table('{"a": {"dtype": "F32", "shape": [1e999], "data_offsets": [0, 0]}}'), "damaged or incomplete"),
        (_table('{"a": ' + "[" * 100_000 + "]" * 100_000 + "}"), "damaged or incomplete"),
        (lambda path: path.mkdir(), "is a folder; give the weights file in it"),
        pytest.param(
            lambda path: os.mkfifo(path),
            "is not a regular file",
            marks=pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes as here are POSIX's"),
        ),
        (lambda path: path.write_bytes(b""), "is empty"),
        (lambda path: path.write_bytes(b"\n<!DOCTYPE html><html>"), "is a web page"),
        (_lfs, r"only a Git LFS pointer"),
        (_tar, "PyTorch older than 0.2"),
        (_zip_cut, r"damaged or incomplete .*; download it again"),
        (_legacy_cut, r"damaged or incomplete .*; download it again"),
        (_safetensors_cut, r"damaged or incomplete \(a\.bias lies beyond the end\)"),
        (lambda path: path.write_bytes(b"\xff" * 7 + b"\x00{}"), "its header would fill"),
        (lambda path: path.write_bytes(b"\x02" + b"\0" * 7 + b"{]"), "damaged or incomplete"),
        (lambda path: path.write_bytes(b"\x02" + b"\0" * 7 + b"[]"), "not a weights file in a known format"),
        (lambda path: path.write_bytes(b"\x9e" * 7 + b"\x01" * 600), "not a weights file in a known format"),
        (_other_zip, "a zip file without PyTorch weights"),
        (lambda path: path.write_bytes(pickle.dumps({"a": 1})), "is a pickle, but not from PyTorch"),
        (lambda path: write_zip(path, pickle.dumps([1, 2], 2)), "contains a list, not named weights"),
        (lambda path: write_zip(path, pickled({"a": Tensor((1,))})[:-20]), "damaged or incomplete"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(tmp_path: Path, write: Callable[[Path], Any], message: str) -> None:
    path = tmp_path / "a.pth"
    write(path)
    with pytest.raises(InputError, match=message) as caught:
        read_contents(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_a_table_whose_length_reads_like_a_web_page(tmp_path: Path) -> None:
    text = '{"a": {"dtype": "F32", "shape": [], "data_offsets": [0, 4]}}'
    _table(text + " " * (ord("<") * 256 + ord(" ") - len(text)), b"1234")(tmp_path / "a.safetensors")
    assert tensors(read_contents(tmp_path / "a.safetensors"), ("",)) == {"a": ()}


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputMissing, match=r"a\.pth does not exist"):
        read_contents(tmp_path / "a.pth")
    (tmp_path / "b.pth").symlink_to(tmp_path / "b.pth")
    with pytest.raises(InputMissing, match="cannot be read"):
        read_contents(tmp_path / "b.pth")


def test_a_real_file_of_pytorch(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed: make test-engines sets it up")
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4)).half()
    for legacy in (True, False):
        torch.save(
            {"params": net.state_dict(), "whole": [torch.nn.Parameter(torch.ones(2))]},
            tmp_path / "a.pth",
            _use_new_zipfile_serialization=not legacy,
        )
        found = tensors(read_contents(tmp_path / "a.pth"), ("params",))
        assert found == {name: tuple(value.shape) for name, value in net.state_dict().items()}

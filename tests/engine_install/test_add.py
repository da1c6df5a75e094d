"""``rtface engines add``, ``remove`` and ``offers`` as a user meets them, with a converter that needs no torch."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from rtface.cli import doctor_checks
from rtface.cli.app import app
from rtface.engine.engine_set import load_engine
from rtface.engine.listing import list_engines
from rtface.engine.recipe import find_recipes, load_recipe
from rtface.errors import RtfaceError, UsageError
from rtface.util.file_lock import file_lock
from rtface_engines.add import AddCallbacks, AddRequest, add
from rtface_engines.download import digest
from rtface_engines.environment import SetupOutput
from tests.engine_install.checkpoints import Tensor, write_zip
from tests.engine_install.published import Publisher
from tests.engine_install.server import Server


def call(*words: object) -> Result:
    return CliRunner().invoke(app, ["engines", *map(str, words)])


def refused(*words: object) -> str:
    """What is said in the end of a command that must not succeed, and leaves nothing."""
    result = call("add", *words)
    assert result.exit_code in (1, 2) and result.stdout == "", result.output
    assert nothing_half()
    (line,) = [line for line in result.stderr.splitlines() if "error: " in line]
    return line


def folder() -> Path:
    return Path(os.environ["RTFACE_CONFIG_DIR"]) / "engines"


def nothing_half() -> bool:
    return not (folder() / ".adding").exists()


def telling(said: list[str], waits: threading.Event | None = None) -> AddCallbacks:
    """Callbacks that accept and note what is said; `waits` is set by it."""

    def log(line: str) -> None:
        said.append(line)
        if waits is not None:
            waits.set()

    return AddCallbacks(
        SetupOutput(log, log),
        lambda what, done: said.append(f"{what} {done:g}"),
        lambda done, total: None,
        lambda words: "in a test",
    )


def test_a_file_of_ones_own_becomes_an_engine(published: Publisher, weights: Path) -> None:
    result = call("add", "tiny-1", "--from", weights, "--accept-license")
    assert result.exit_code == 0, result.output
    for words in (
        "code under Apache-2.0, weights under S-Lab-1.0",
        "commercial use: forbidden",
        "Only for study.",
        "dB against its golden crops",
        "ms per face",
        "--engine tiny-1",
    ):
        assert words in result.stderr
    recipe = load_recipe(folder() / "tiny-1" / "recipe.toml")
    assert recipe.family == "GAN" and recipe.batch.max == 4 and recipe.licence.terms.strip() == "Only for study."
    assert recipe.source is not None and recipe.source.sha256 == digest(weights) and recipe.source.file == "mine.pth"
    accepted = json.loads((folder() / "tiny-1" / "accepted.json").read_text())
    assert accepted["how"] == "--accept-license" and accepted["licence"]["weights"] == "S-Lab-1.0"
    assert accepted["accepted"].endswith("+00:00") and nothing_half()
    engine = load_engine("tiny-1", threads=1)
    crops = np.random.default_rng(0).random((1, 3, 64, 64), np.float32)
    np.testing.assert_allclose(engine.submit(crops).result().pixels, 0.5 * crops + 0.25, atol=6e-3)
    engine.close()
    (row,) = [row for row in list_engines() if row.name == "tiny-1"]
    assert (row.family, row.licence, row.origin, row.commercial_use) == (
        "GAN",
        "code Apache-2.0, weights S-Lab-1.0",
        "mine.pth",
        False,
    )


def test_both_spellings_and_json(published: Publisher, weights: Path) -> None:
    result = call("add", "tiny-1", "--from", weights, "--accept-licence", "--json", "-q")
    assert result.exit_code == 0 and result.stderr == ""
    said = json.loads(result.stdout)
    assert said["name"] == "tiny-1" and said["psnr"] > 35 and said["onnx_error"] == 1e-6


def test_it_goes_on_without_what_offered_it(published: Publisher, weights: Path) -> None:
    assert call("add", "tiny-1", "--from", weights, "--accept-license").exit_code == 0
    published.root.rename(published.root.with_name("uninstalled"))
    load_engine("tiny-1", threads=1).close()


def test_without_acceptance_nothing_is_done(published: Publisher, weights: Path) -> None:
    assert (
        "the licence of tiny-1 was not accepted, so nothing was added; without a terminal, --accept-license accepts it"
        in refused("tiny-1", "--from", weights)
    )
    published.edit('file = "tiny1.pth"', 'file = "tiny1.pth"\nurl = "http://127.0.0.1:9/tiny1.pth"')
    assert "was not accepted" in refused("tiny-1")


def test_commercial_use_refuses(published: Publisher, weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    line = refused("tiny-1", "--from", weights, "--accept-license", "--commercial-use")
    assert "tiny-1 may not be used commercially (code Apache-2.0, weights S-Lab-1.0)" in line
    monkeypatch.setenv("RTFACE_COMMERCIAL_USE", "1")
    assert "may not be used commercially" in refused("tiny-1", "--from", weights, "--accept-license")
    assert call("add", "tiny-1", "--from", weights, "--accept-license", "--no-commercial-use").exit_code == 0
    assert "tiny-1" not in call("--no-measure").stdout
    assert "tiny-1" in call("--no-measure", "--no-commercial-use").stdout


@pytest.mark.slow
def test_an_engine_is_replaced_only_on_request_and_if_it_passes(published: Publisher, weights: Path) -> None:
    words = ("tiny-1", "--from", weights, "--accept-license")
    assert call("add", *words).exit_code == 0
    before = (folder() / "tiny-1" / "recipe.toml").read_bytes()
    assert "engine tiny-1 already exists" in refused(*words)
    published.mode("wrong")
    assert "does not match its reference's answers" in refused(*words, "--overwrite")
    assert (folder() / "tiny-1" / "recipe.toml").read_bytes() == before
    published.mode("")
    other = write_zip(weights.with_name("other.pth"), {"params_ema": published.tensors}, b"other")
    assert call("add", "tiny-1", "--from", other, "--accept-license", "--overwrite").exit_code == 0
    assert load_recipe(folder() / "tiny-1" / "recipe.toml").source.file == "other.pth" and nothing_half()  # type: ignore[union-attr]
    assert [path.name for path in folder().iterdir()] == ["tiny-1"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mode", "message"),
    [
        ("error", "tiny-1 cannot be converted: {weights} is not to my taste"),
        ("crash", "tiny-1 cannot be converted: the converter failed: Traceback: something broke"),
        ("wrong", "engine tiny-1 does not match its reference's answers on this machine"),
    ],
)
def test_a_conversion_that_fails_leaves_nothing(published: Publisher, weights: Path, mode: str, message: str) -> None:
    published.mode(mode)
    assert message.format(weights=weights) in refused("tiny-1", "--from", weights, "--accept-license")
    assert "tiny-1" not in find_recipes() and list(folder().iterdir()) == []


def test_a_file_is_recognised_and_a_fine_tune_is_welcome(published: Publisher, tmp_path: Path) -> None:
    published.edit('prefix = "net."\n', 'prefix = "net."\nfile = "o.ckpt"\nsha256 = "00"\n')
    path = write_zip(tmp_path / "b.ckpt", {"state_dict": {f"net.{n}": t for n, t in published.tensors.items()}})
    result = call("add", "--from", path, "--accept-license")
    assert result.exit_code == 0, result.output
    assert "b.ckpt contains the weights of other" in result.stderr
    assert "warning: " in result.stderr and "is not the published o.ckpt" in result.stderr
    assert "other" in find_recipes()


def test_messages_for_what_cannot_be(published: Publisher, weights: Path, tmp_path: Path) -> None:
    (tmp_path / "page.pth").write_bytes(b"<html>")
    bare = write_zip(tmp_path / "bare.pth", {"params": {"x": Tensor((1,))}})
    for words, message in [
        ([], "give the name of an engine that 'rtface engines offers' lists, or a file with --from FILE"),
        (["tiny1"], "the nearest is tiny-1"),
        (["codeformer"], "engines/published/codeformer"),
        (["tiny-1", "--accept-license"], "get tiny1.pth from its publisher and add it with: rtface engines add tiny-1"),
        (["--from", weights], "give the engine, as in: rtface engines add tiny-1 --from"),
        (["tiny-1", "--from", tmp_path / "page.pth"], "page.pth is a web page"),
        (["--from", bare], "does not contain the weights of an engine that can be added (tiny-1, tiny-2, other)"),
        (
            ["tiny-1", "--from", bare],
            "3 of 3 tensors are missing (first: stem.weight), 1 do not belong to the network (first: x)",
        ),
        (["tiny-1", "--from", tmp_path / "no.pth"], "no.pth does not exist"),
        (["tiny-1", "--from", weights, "--url", "http://x/"], "--from and --url cannot be combined"),
        (["x/../../y", "--from", weights], "is not a valid name of an engine"),
        (["rtface-m", "--from", weights], "rtface has an engine of that name"),
        (["tiny-1", "--from", weights, "--accept-license", "--python", tmp_path / "nopython"], "cannot be started"),
        (["tiny-1", "--url", "ftp://x/y", "--accept-license"], "give an http, https or file address"),
    ]:
        assert message in refused(*words)


def test_fetched_and_pinned(published: Publisher, weights: Path) -> None:
    url = weights.as_uri()
    result = call("add", "tiny-1", "--url", url, "--accept-license")
    assert result.exit_code == 0, result.output
    assert f"the publisher gives no SHA-256; later downloads must have {digest(weights)}" in result.stderr
    source = load_recipe(folder() / "tiny-1" / "recipe.toml").source
    assert source is not None and source.url == url and source.sha256 == digest(weights)
    write_zip(weights, {"params_ema": published.tensors}, b"other")
    assert "is not the published file: SHA-256" in refused("tiny-1", "--url", url, "--accept-license", "--overwrite")
    published.edit('file = "tiny2.pth"', f'file = "tiny2.pth"\nurl = "{url}"\nsha256 = "{"0" * 64}"')
    assert "is not the published file: SHA-256" in refused("tiny-2", "--accept-license")


def test_remove(published: Publisher, weights: Path) -> None:
    assert "you have not added an engine 'tiny-1'; you have added no engines" in call("remove", "tiny-1").stderr
    assert call("add", "tiny-1", "--from", weights, "--accept-license").exit_code == 0
    result = call("remove", "tiny1")
    assert result.exit_code == 2 and ": the nearest is tiny-1; added: tiny-1" in result.stderr
    assert "rtface-m is part of rtface and cannot be removed" in call("remove", "rtface-m").stderr
    result = call("remove", "tiny-1")
    assert result.exit_code == 0 and "tiny-1 removed" in result.stderr
    assert list(folder().iterdir()) == [] and "tiny-1" not in find_recipes()


def test_the_list_of_offers(published: Publisher, weights: Path) -> None:
    published.edit('file = "tiny2.pth"', 'file = "tiny2.pth"\nbytes = 5000000\nurl = "https://host/t"')
    assert call("add", "tiny-1", "--from", weights, "--accept-license").exit_code == 0
    result = call("offers")
    rows = {line.split()[0]: line for line in result.stdout.splitlines()}
    assert "added" in rows["tiny-1"] and "forbidden" in rows["tiny-1"] and "weights S-Lab-1.0" in rows["tiny-1"]
    assert "to download" in rows["tiny-2"] and "tiny2.pth (5 MB)" in rows["tiny-2"]
    assert "with --from" in rows["other"]
    assert "engines/published/codeformer" in result.stderr
    rows = json.loads(call("offers", "--json").stdout)
    assert [row["added"] for row in rows] == [True, False, False]


@pytest.mark.skipif(os.name != "posix", reason="signals as here are POSIX's")
def test_a_signal_ends_the_converter_and_leaves_nothing(published: Publisher, weights: Path) -> None:
    published.mode("hang")
    process = published.command("add", "tiny-1", "--from", weights, "--accept-license")
    published.until_it_hangs(process)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 143 and "Traceback" not in said
    assert list(folder().iterdir()) == []
    running = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=False).stdout
    assert str(weights) not in running


def test_a_killed_attempt_is_swept_away_later(published: Publisher, weights: Path) -> None:
    left = folder() / ".adding" / "tiny-1-killed"
    left.mkdir(parents=True)
    (left / "recipe.toml").write_text("half")
    os.utime(left, (1, 1))
    assert "tiny-1-killed" not in str(find_recipes())
    assert call("add", "tiny-1", "--from", weights, "--accept-license").exit_code == 0
    assert nothing_half()


def test_the_doctor_says_how_what_was_added_is_repaired(published: Publisher, weights: Path) -> None:
    assert call("add", "tiny-1", "--from", weights, "--accept-license").exit_code == 0
    (folder() / "tiny-1" / "model.onnx").write_bytes(b"half")
    with pytest.raises(RtfaceError, match="rtface engines add tiny-1 --overwrite, or restore the file"):
        load_engine("tiny-1", threads=1)
    (finding,) = [found for found in doctor_checks.check_engines() if found.name == "engine tiny-1"]
    assert (finding.state, finding.repair) == ("fault", "rtface engines add tiny-1 --overwrite")


def test_progress_is_told(published: Publisher, weights: Path) -> None:
    said: list[str] = []
    added = add(AddRequest("tiny-1", weights), telling(said))
    assert said == ["reading the weights 0.5", "computing golden crops 1", "checking it against its golden crops 0"]
    assert added.precision in ("bf16", "f32") and added.required in (35.0, 55.0)


def test_all_errors_are_ours(published: Publisher, weights: Path) -> None:
    folder().parent.mkdir(parents=True, exist_ok=True)
    folder().write_text("a file where a folder should be")
    with pytest.raises(RtfaceError, match="set RTFACE_CONFIG_DIR to another folder"):
        add(AddRequest("tiny-1", weights), telling([]))


def test_a_second_addition_waits_and_finds_the_engine(published: Publisher, weights: Path) -> None:
    """Threads, which the lock keeps apart as it does processes."""
    said: list[str] = []
    waits, lock = threading.Event(), Path(os.environ["RTFACE_CACHE"]) / "downloads" / "tiny-1.lock"
    with ThreadPoolExecutor(1) as pool:
        with file_lock(lock, lambda: None):
            second = pool.submit(add, AddRequest("tiny-1", weights), telling(said, waits))
            assert waits.wait(30)
            (folder() / "tiny-1").mkdir(parents=True)
        with pytest.raises(UsageError, match="engine tiny-1 already exists"):
            second.result(30)
    assert said == ["another rtface is downloading or converting tiny-1; waiting for it"]


@pytest.mark.skipif(os.name != "posix", reason="signals as here are POSIX's")
def test_a_killed_addition_is_resumed(published: Publisher, server: Server, tmp_path: Path) -> None:
    def hold(request: Any) -> None:
        server.send(request, upto=900_000)
        killed.wait(60)

    server.data = write_zip(tmp_path / "a.pth", {"params_ema": published.tensors}, bytes(1_000_000)).read_bytes()
    killed, words = threading.Event(), ("add", "tiny-1", "--url", server.url, "--accept-license")
    server.acts, end = [hold], time.monotonic() + 25
    process = published.command(*words)
    part = Path(os.environ["RTFACE_CACHE"]) / "downloads" / "tiny-1" / "tiny1.pth.part"
    while not (part.is_file() and part.stat().st_size > 500_000) and time.monotonic() < end:
        time.sleep(0.02)
    process.kill()
    process.communicate()
    killed.set()
    result = call(*words)
    assert result.exit_code == 0, result.output
    assert len(server.asked) == 2 and int(str(server.asked[1]).removeprefix("bytes=")[:-1]) > 500_000


def test_over_http_what_is_no_weights_is_not_kept(
    published: Publisher, weights: Path, server: Server, tmp_path: Path
) -> None:
    server.data = b"<html>please log in</html>"
    assert "is a web page, not a weights file" in refused("tiny-1", "--url", server.url, "--accept-license")
    assert not list((tmp_path / "cache" / "downloads").rglob("*.pth"))
    server.data = weights.read_bytes()
    result = call("add", "tiny-1", "--url", server.url, "--accept-license")
    assert result.exit_code == 0, result.output
    assert "not encrypted and has no published SHA-256" in result.stderr and "downloading http://127" in result.stderr
    assert not (tmp_path / "cache" / "downloads" / "tiny-1").exists()

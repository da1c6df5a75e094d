"""What INPUT and OUTPUT of a live run mean, and that no secret of theirs is shown."""

from __future__ import annotations

from contextlib import suppress

import pytest

from rtface.config.addresses import check_addresses, is_live, live_scope, parse_address, resolve_address
from rtface.config.options import Options, Scope
from rtface.errors import OutputError, UsageError
from rtface.live.endpoint_factory import buffer_of, make_endpoints
from rtface.redaction import redacted, shown
from rtface.stats import Stats


@pytest.mark.parametrize(
    ("text", "kind", "name"),
    [
        ("camera:0", "camera", "0"),
        ("camera:Integrated Camera: HD", "camera", "Integrated Camera: HD"),
        ("/dev/video2", "camera", "/dev/video2"),
        ("vcam:", "vcam", ""),
        ("vcam:rtface", "vcam", "rtface"),
        ("null:", "null", ""),
        ("rtmp://h/live/key", "stream", "rtmp://h/live/key"),
        ("film.mp4", "file", "film.mp4"),
        ("C:\\films\\a.mp4", "file", "C:\\films\\a.mp4"),
        ("file:///tmp/a.mp4", "file", "file:///tmp/a.mp4"),
    ],
)
def test_a_name_says_what_it_is(text, kind, name):
    found = parse_address(text)
    assert (found.kind, found.name) == (kind, name)


@pytest.mark.parametrize(
    ("source", "sink", "live"),
    [
        ("camera:0", "vcam:", True),
        ("camera:0", "a.mkv", True),
        ("a.mp4", "vcam:", True),
        ("a.mp4", "rtmp://h/a/k", True),
        ("rtsp://h/a", "a.mkv", True),
        ("a.mp4", "b.mp4", False),
        ("https://h/a.mp4", "b.mp4", False),
        ("https://h/a.m3u8", "null:", True),
        ("a.mp4", "null:", True),
        ("a.mp4", "camera:0", True),
        ("vcam:", "a.mp4", True),
    ],
)
def test_one_end_that_cannot_wait_makes_a_run_live(source, sink, live):
    assert is_live(parse_address(source), parse_address(sink)) is live


@pytest.mark.parametrize(
    ("source", "sink", "said"),
    [
        ("vcam:", "a.mkv", "is an output"),
        ("camera:0", "camera:1", "is an input; use a virtual camera"),
        ("camera:0", "rtsp://h/x", "publishes over rtmp, rtmps"),
    ],
)
def test_ends_the_wrong_way_round_are_refused_with_what_to_write(source, sink, said):
    with pytest.raises(UsageError, match=said):
        check_addresses(parse_address(source), parse_address(sink))


def test_no_secret_is_shown():
    for url in (
        "rtmp://user:pw@host:1935/live/SECRET",
        "rtmps://host/app/SECRET?x=SECRET",
        "rtsp://u:SECRET@h/a?t=SECRET",
        "srt://host:9000?passphrase=SECRET&streamid=SECRET",
        "https://h/a.m3u8?token=SECRET#SECRET",
        "rtmp://h/app/inst/SECRET",
        "rtsp://u:a@SECRET@h/a",
    ):
        address = parse_address(url)
        for text in (shown(url), str(address), repr(address), redacted(f"cannot open '{url}': refused")):
            assert "SECRET" not in text
            assert "pw" not in text
    assert shown("rtmp://host/app/SECRET") == "rtmp://host/app/…"
    assert redacted("a 'rtsp://u:p@h/a' and b") == "a 'rtsp://h/a' and b"
    assert redacted(f"{'A' * 300_000} {'b' * 50}rtsp://u:p@h/a").endswith("bbrtsp://h/a")  # time is linear
    assert redacted("rtmp://h/a/k, 30 fps (https://h/x?k): no") == "rtmp://h/a/…, 30 fps (https://h/x): no"


@pytest.mark.parametrize(
    "url",
    [
        "rtmp:/host/live/SECRET",
        "rtmps://host/SECRET",
        "https:/u:SECRET@host/a",
        "rtsp://u:a/SECRET@host/a",
        "RTMP://host/live/SECRET",
        "rtmp://host/live/a'SECRET",
    ],
)
def test_a_malformed_url_keeps_its_secret(url):
    with suppress(UsageError):  # one slash is refused
        parse_address(url)
    for text in (
        shown(url),
        redacted(f"{url}: a live run can be recorded as .mkv"),
        redacted(f"also = {url} (a.toml)"),
    ):
        assert "host" in text
        assert "SECRET" not in text


def test_a_key_repeated_by_a_server_is_not_shown():
    parse_address("rtmp://127.0.0.1/live/k3y-of-mine-17?pass=abcdefgh1")
    parse_address("srt://h:9000?passphrase=long%20pass%20phrase")
    said = redacted("Stream k3y-of-mine-17 is already publishing; abcdefgh1, long pass phrase, long%20pass%20phrase")
    assert said == "Stream … is already publishing; …, …, …"


def test_a_url_may_come_from_the_environment_or_a_file(tmp_path):
    file = tmp_path / "key"
    file.write_text("rtmp://h/a/k\nmore\n")
    assert resolve_address(f"@{file}") == "rtmp://h/a/k"
    assert resolve_address("env:URL", {"URL": "rtmp://h/a/k "}) == "rtmp://h/a/k"
    assert resolve_address("camera:0") == "camera:0"
    file.write_text("\n")
    for text in (f"@{file}", f"@{file}2", "env:NOT_SET"):
        with pytest.raises(UsageError, match=r"write the URL|set it to the URL"):
            resolve_address(text, {})


@pytest.mark.parametrize(
    ("name", "options", "seconds"),
    [
        ("rtmp://h/app/key", {}, None),
        ("camera:0", {}, 0.0),
        ("film.mkv", {}, None),
        ("http://h/a.m3u8", {}, None),
        ("rtmp://h/app/key", {"delay": 700}, 0.6),
        ("rtmp://h/app/key", {"delay": 60}, 0.0),
        ("srt://h:1", {"delay": 350, "latency": 60}, 0.29),
        ("camera:0", {"delay": 700}, 0.0),
    ],
)
def test_the_jitter_buffer_by_source_and_options(name: str, options: dict[str, float], seconds: float | None):
    assert buffer_of(parse_address(name), Options.of(options)) == seconds


@pytest.mark.parametrize(
    ("sink", "also", "report", "said"),
    [
        ("out.mkv", "out.mkv", None, "--also .*: is the same file as OUTPUT"),
        ("null:", "a.mkv", "a.mkv", "--report .*: is the same file as --also"),
        ("null:", "in.mkv", None, "is the input itself"),
        ("null:", None, "in.mkv", "is the input itself"),
        ("null:", None, "none/r.json", "there is no folder"),
        ("null:", "env:ALSO", None, "is the input itself"),
    ],
)
def test_files_of_a_live_run_are_checked_before_it(tmp_path, monkeypatch, sink, also, report, said):
    film = tmp_path / "in.mkv"
    film.write_bytes(b"film")
    monkeypatch.setenv("ALSO", str(film))
    options = Options.of(
        {
            name: value if ":" in value else tmp_path / value
            for name, value in (("also", also), ("report", report))
            if value
        }
        | {"overwrite": True}
    )
    with pytest.raises(OutputError, match=said):
        target = sink if ":" in sink else str(tmp_path / sink)
        make_endpoints(parse_address(str(film)), parse_address(target), options, Stats())
    assert film.read_bytes() == b"film" and [p.name for p in tmp_path.iterdir()] == ["in.mkv"]


@pytest.mark.parametrize(
    ("source", "sink", "also", "scope"),
    [
        ("camera:0", "vcam:", None, Scope.LIVE | Scope.CAMERA),
        ("rtmp://h/a/k", "null:", None, Scope.LIVE),
        ("camera:0", "rtmp://h/a/k", None, Scope.LIVE | Scope.CAMERA | Scope.PUBLISHED),
        ("film.mp4", "vcam:", None, Scope.LIVE | Scope.PLAYED),
        ("rtmp://h/a/k", "film.mkv", None, Scope.LIVE | Scope.RECORDED),
        ("rtmp://h/a/k", "srt://h:1", "film.mkv", Scope.LIVE | Scope.RECORDED | Scope.PUBLISHED),
    ],
)
def test_what_a_live_run_has(source, sink, also, scope):
    assert live_scope(parse_address(source), parse_address(sink), Options.of({"also": also})) == scope

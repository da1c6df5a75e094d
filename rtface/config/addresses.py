"""Parses INPUT and OUTPUT of a live run: ``camera:0``, ``/dev/video0``, ``vcam:``, ``rtmp://…``, ``null:``."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from rtface.config.options import LiveOptions, Scope
from rtface.errors import UsageError
from rtface.redaction import is_url, keep_secret, shown
from rtface.util import plugins
from rtface.util.foreign import first_line
from rtface.util.paths import expanded
from rtface.util.urls import check_slashes

# Schemes of inputs that are always live streams. Others (http, ftp …) are films, unless the output is live.
LIVE_SCHEMES = ("rtmp", "rtmps", "rtsp", "rtsps", "udp", "tcp", "srt", "rtp")
# Schemes of outputs.
SINK_SCHEMES = ("rtmp", "rtmps", "tcp", "srt")
_DEVICES = ("camera", "vcam", "null")
_READ_BY_FFMPEG = (*LIVE_SCHEMES, "http", "https", "ftp", "ftps", "sftp", "file")


@dataclass(frozen=True, slots=True)
class LiveAddress:
    """Represents the source or sink of a live run.

    Attributes:
        kind: "camera", "vcam", "null", "stream" (a URL), "file", or the name of a plugin's
            source or sink.
        name: a camera's number or name, a virtual camera's name ("" for the first), a URL with its secrets, or a
            path. Messages show the `str()` of this object instead.
        variant: the variant of an HLS list to read (``--variant``).
    """

    kind: str
    name: str = field(repr=False)
    variant: str = "best"

    def __post_init__(self) -> None:
        keep_secret(self.name)

    def __str__(self) -> str:
        if self.kind in ("stream", "file"):
            return shown(self.name)
        return self.name if self.name.startswith("/dev/") else f"{self.kind}:{self.name}"

    @property
    def scheme(self) -> str:
        """Lower-case scheme of a stream's URL; "" of other addresses."""
        return urlsplit(self.name).scheme.lower() if self.kind == "stream" else ""


def resolve_address(text: str, environ: Mapping[str, str] = os.environ) -> str:
    """Resolves ``env:NAME`` and ``@FILE`` (first line). Returns other names unchanged. Both forms keep a URL with a
    key out of the process list.

    Raises:
        UsageError: the variable or file is missing or empty.
    """
    if text.startswith("env:"):
        value = environ.get(text[4:], "").strip()
        if not value:
            raise UsageError(
                "{address}: the environment variable {variable} is not set; set it to the URL",
                code="address_variable",
                address=text,
                variable=text[4:],
            )
        return value
    if text.startswith("@") and not Path(text).exists():
        try:
            return first_line(expanded(text[1:], text))
        except OSError as error:
            raise UsageError(
                "{address}: the file cannot be read ({why}); write the URL into its first line",
                code="address_file_unreadable",
                address=text,
                why=error.strerror,
            ) from None
    return text


def parse_address(text: str) -> LiveAddress:
    """Parses a name from `resolve_address`. A name that is neither a device nor a URL is a file. Raises like
    `rtface.util.urls.check_slashes`."""
    match = re.match(r"([a-z][a-z0-9-]+):(.*)", text, re.DOTALL)
    if match and (
        match[1] in _DEVICES
        or (match[1] not in _READ_BY_FFMPEG and any(match[1] in plugins.installed(kind) for kind in ("source", "sink")))
    ):
        return LiveAddress(match[1], match[2])
    if re.match(r"/dev/video\d+$", text):
        return LiveAddress("camera", text)
    check_slashes(text)
    return LiveAddress("stream" if is_url(text) and not text.startswith("file://") else "file", text)


def is_live(source: LiveAddress, sink: LiveAddress) -> bool:
    """Checks whether a run is live: its source or sink cannot wait. Also returns True if the two are swapped, which a
    later check reports."""
    return any(end.kind not in ("stream", "file") or end.scheme in LIVE_SCHEMES for end in (source, sink))


def live_scope(source: LiveAddress, sink: LiveAddress, options: LiveOptions) -> Scope:
    """Returns the scopes of options for a live run."""
    scope = Scope.LIVE
    scope |= {"camera": Scope.CAMERA, "file": Scope.PLAYED}.get(source.kind, scope)
    if sink.kind == "stream":
        scope |= Scope.PUBLISHED
    if sink.kind == "file" or options.also is not None:
        scope |= Scope.RECORDED
    return scope


def check_addresses(source: LiveAddress, sink: LiveAddress) -> None:
    """Raises UsageError for an output as source, or an input as sink."""
    if not plugins.exists("source", source.kind):
        raise UsageError(
            "{address} is an output; use a camera (camera:0), a stream's URL or a film as INPUT",
            code="source_is_output",
            address=source,
        )
    if not plugins.exists("sink", sink.kind):
        raise UsageError(
            "{address} is an input; use a virtual camera (vcam:), a stream's URL or a file as OUTPUT",
            code="sink_is_input",
            address=sink,
        )
    if sink.kind == "stream" and sink.scheme not in SINK_SCHEMES:
        raise UsageError(
            "{address}: rtface publishes over {schemes}",
            code="publish_scheme",
            address=sink,
            schemes=", ".join(SINK_SCHEMES),
        )

"""Signs complete recordings of a live run, inside or by sidecar (docs/trust.md)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rtface.config.options import Options
from rtface.errors import OutputError
from rtface.live.protocols import LiveSink
from rtface.live.sinks.record_sink import RecordSink
from rtface.media.files.outputs import check_target
from rtface.media.files.workfile import Target
from rtface.report import Report
from rtface.trust.credentials import can_hold
from rtface.trust.credentials_writing import manifest, sign_file, signing_key
from rtface.trust.sidecar import OutputDetails, sidecar_path, write_sidecar
from rtface.trust.signing import SigningKey


@dataclass(frozen=True, slots=True)
class RecordingSigner:
    """Signs the recordings of one run.

    Attributes:
        recordings: recording sinks, each with its sidecar if the file cannot contain credentials.
    """

    key: SigningKey
    options: Options
    recordings: list[tuple[RecordSink, Target | None]]

    @classmethod
    def asked(cls, options: Options, sinks: Sequence[LiveSink]) -> RecordingSigner | None:
        """Creates the signer before anything is opened. Returns None if nothing is signed.

        Raises:
            MissingComponent, UsageError: see `signing_key`.
            OutputError: a sidecar exists already, or cannot be written.
        """
        recordings = [sink for sink in sinks if isinstance(sink, RecordSink)]
        key = signing_key(options) if recordings else None
        if key is None:
            return None
        return cls(
            key,
            options,
            [
                (
                    sink,
                    None
                    if can_hold(sink.path)
                    else check_target(sidecar_path(sink.path), inputs=[], overwrite=options.overwrite),
                )
                for sink in recordings
            ],
        )

    def sign(self, source: Path | str, report: Report) -> list[str]:
        """Signs the complete recordings.

        Args:
            source: path of the played film, or name of a camera or stream.
            report: report of the run.

        Returns:
            A line for each recording.

        Raises:
            OutputError: a recording cannot be signed. It stays complete, without credentials; other recordings are
                signed.
        """
        lines: list[str] = []
        failure: OutputError | None = None
        for sink, sidecar in self.recordings:
            result = sink.recorded
            if result is None or result.why:
                lines.append(f"{sink.path.name}: not signed, because the recording is incomplete")
                continue
            file_report, changes = replace(report, output=str(sink.path)), OutputDetails(result.changed)
            try:
                if sidecar is None:
                    sign_file(sink.path, manifest(source, self.options, file_report, changes), source, self.key)
                    lines.append(f"{sink.path.name}: signed")
                else:
                    lines.append(
                        write_sidecar(sidecar, sink.path, source, self.options, file_report, changes, key=self.key)
                    )
            except OutputError as error:
                failure = failure or error
        if failure is not None:
            raise failure
        return lines

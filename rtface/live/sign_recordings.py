"""Signs the recordings of a live run once they are whole: credentials inside, or a signed sidecar (docs/trust.md)."""

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
from rtface.trust.credentials import can_hold, sign_file
from rtface.trust.sidecar import Made, sidecar_path, write_sidecar
from rtface.trust.signing import Signing, manifest, signed


@dataclass(frozen=True, slots=True)
class RecordingSigner:
    """What is to be signed, and how.

    Attributes:
        recordings: the sinks, each with its sidecar where the file holds no credentials.
    """

    signing: Signing
    options: Options
    recordings: list[tuple[RecordSink, Target | None]]

    @classmethod
    def asked(cls, options: Options, sinks: Sequence[LiveSink]) -> RecordingSigner | None:
        """What the options ask for, before anything is opened; None where nothing is to be signed.

        Raises:
            MissingComponent, UsageError: as `Signing.asked`.
            OutputError: a sidecar is there already, or cannot be written.
        """
        recordings = [sink for sink in sinks if isinstance(sink, RecordSink)]
        signing = Signing.asked(options) if recordings else None
        if signing is None:
            return None
        return cls(
            signing,
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

    def sign(self, source: Path | str, report: Report, origin: float) -> list[str]:
        """Signs the recordings that are whole.

        Args:
            source: the film that was played, or the name of a camera or stream.
            report: of the run.
            origin: `Frame.time` from which the report's times count.

        Returns:
            A line for each recording.

        Raises:
            OutputError: one cannot be signed; it is whole, without credentials. The others are signed.
        """
        lines: list[str] = []
        failure: OutputError | None = None
        for sink, sidecar in self.recordings:
            ended = sink.recorded
            if ended is None or ended.why:
                lines.append(f"{sink.path.name}: not signed, because the recording is not whole")
                continue
            of, made = replace(report, output=str(sink.path)), Made(ended.changed)
            try:
                if sidecar is None:
                    begin = (sink.began or origin) - origin
                    sign_file(
                        sink.path,
                        manifest(self.options, of, made, begin=begin),
                        source,
                        self.signing.key,
                        self.signing.timestamp,
                    )
                    lines.append(signed(sink.path.name, self.options))
                else:
                    lines.append(
                        write_sidecar(
                            sidecar, sink.path, source, self.options, of, made, frames=False, key=self.signing.key
                        )
                    )
            except OutputError as error:
                failure = failure or error
        if failure is not None:
            raise failure
        return lines

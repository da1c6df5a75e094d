"""``rtface verify``: checks outputs against their manifests (``--checksums``), sidecars and inputs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rtface.cli.command import FAILED, Json, command, explain
from rtface.cli.console import Console, print_json, step_status
from rtface.cli.signals import StopRequest
from rtface.errors import InputMissing, RtfaceError, UsageError
from rtface.util.text import counted

if TYPE_CHECKING:
    from rtface.trust.verify import Verified

DIFFERS, NOT_CHECKED = 3, 4
"""Exit codes where an output is not what its manifests, sidecar or input say, and where nothing, or not all that was to
be compared, could be."""


@command()
def verify(
    outputs: Annotated[
        list[str],
        typer.Argument(
            metavar="OUTPUT... [INPUT]",
            show_default=False,
            help=(
                "Films, stills or folders of stills with manifests or sidecars next to them. Of two names the second "
                "is the INPUT of the first where it has none of these."
            ),
        ),
    ],
    input: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help=("What OUTPUT was made of: shows that everything outside the faces is the same.")
        ),
    ] = None,
    manifest: Annotated[
        str | None,
        typer.Option(metavar="FILE", help=("Check against this SHA-256 manifest or sidecar.")),
    ] = None,
    trust: Annotated[
        Path | None,
        typer.Option(
            metavar="CA.pem", help=("Trust signers of credentials whose certificates these ones (PEM) vouch for.")
        ),
    ] = None,
    write: Annotated[bool, typer.Option("--write", help="Write the manifest instead of checking it.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="With --write: replace manifests.")] = False,
    *,
    json: Json = False,
    console: Console,
    stop: StopRequest,
) -> None:
    """Check outputs against their checksums (SHA-256), their sidecars, and the INPUT.

    The exit code is 0 where everything is the same, 3 where something differs, 4 where not all of it could be
    compared, and 1 where something cannot be read.
    """
    if manifest is not None and (len(outputs) > 1 or write):
        raise UsageError("--manifest names the manifest of one OUTPUT that is checked", code="manifest_one")
    if input is None and len(outputs) == 2 and not write and not _stands_alone(outputs[0], outputs[1]):
        input = Path(outputs.pop())
    if input is not None and (len(outputs) > 1 or write):
        raise UsageError("--input names the INPUT of one OUTPUT that is checked", code="input_one")
    codes: list[int] = []
    for name in outputs:
        path = Path(name)
        try:
            codes.append(
                _write(path, overwrite, console, stop)
                if write
                else _check(path, manifest, input, trust, json, console, stop)
            )
        except RtfaceError as error:
            if len(outputs) == 1:
                raise
            codes.append(explain(error, console))
            if json:
                print_json({"output": name, "error": " ".join(str(error).split())})
    raise typer.Exit(next((code for code in (DIFFERS, FAILED, NOT_CHECKED) if code in codes), max(codes)))


def _stands_alone(output: str, other: str) -> bool:
    """True if the second of two names is a further output, and not the input of the first."""
    from rtface.trust.sidecar import read_sidecar, sidecar_path
    from rtface.trust.verify import has_manifest

    sidecar = sidecar_path(Path(output).resolve())
    made_of_it = sidecar.is_file() and read_sidecar(sidecar, Path(output))["input"].get("name") == Path(other).name
    return not made_of_it and has_manifest(Path(other).resolve())


def _check(
    path: Path,
    manifest: str | None,
    input: Path | None,
    trust: Path | None,
    json: bool,
    console: Console,
    stop: StopRequest,
) -> int:
    from rtface.trust.verify import verify as check

    found = check(
        path,
        Path(manifest) if manifest else None,
        input=input,
        trust=trust,
        doing=step_status(console, path.name),
        stop=stop.event.is_set,
    )
    console.clear()
    if json:
        print_json(found.to_dict())
    for note in found.notes:
        console.log(note)
    for gap in found.gaps:
        console.log(f"{path.name}: not checked: {gap}", "warning")
    for proof in found.proofs:
        console.log(f"{path.name}: {proof}")
    for problem in found.problems:
        console.log(f"{path}: {problem}" if not problem.startswith(str(path)) else problem, "error")
    console.log(f"{path}: {_summary(found)}", "info" if found.same else "error" if found.differs else "warning")
    return 0 if found.same else DIFFERS if found.differs else NOT_CHECKED


def _summary(found: Verified) -> str:
    parts: list[str] = []
    if found.files != "not checked":
        parts.append(
            counted(found.files_checked, "file")
            + (" as in the manifest" if found.files == "same" else " checked, not all as in the manifest")
        )
    parts += [
        f"{name}: {answer}"
        for name, answer in (("sidecar", found.sidecar), ("credentials", found.credentials), ("input", found.input))
        if answer != "not checked"
    ]
    parts = parts or ([] if found.proofs and found.gaps else ["nothing could be checked"])
    if found.gaps:
        parts.append("not all that was to be compared could be: not checked")
    return ", ".join(parts)


def _write(path: Path, overwrite: bool, console: Console, stop: StopRequest) -> int:
    from rtface.media.files.outputs import check_outputs
    from rtface.trust.checksums import checksum_output, write_checksums

    if not path.exists():
        raise InputMissing("{path}: there is no such file or folder; check the name", code="path_gone", path=path)
    path = path.resolve() if not path.name else path
    [target] = check_outputs([checksum_output(path)], inputs=[path], overwrite=overwrite)
    console.log(write_checksums(path, target, doing=step_status(console, path.name), stop=stop.event.is_set))
    return 0

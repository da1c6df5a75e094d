"""``rtface verify``: checks outputs against their manifests, signatures and inputs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rtface.cli.command import FAILED, Json, command, explain
from rtface.cli.console import Console, SteadyStatus, print_json
from rtface.cli.signals import StopRequest
from rtface.errors import RtfaceError, UsageError

DIFFERS, NOT_CHECKED = 3, 4
"""Exit codes: DIFFERS if an output differs from its manifest or input, NOT_CHECKED if it could not be compared
completely."""


@command()
def verify(
    outputs: Annotated[
        list[str],
        typer.Argument(
            metavar="OUTPUT... [INPUT]",
            show_default=False,
            help=(
                "Films, stills or folders of stills, with sidecars or embedded credentials. If there are two names and "
                "the second has no sidecar, it is the INPUT of the first."
            ),
        ),
    ],
    input: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The INPUT of OUTPUT, to check that nothing else was changed."),
    ] = None,
    trust: Annotated[
        Path | None,
        typer.Option(metavar="CA.pem", help="Trust signers whose certificates these (PEM) have issued."),
    ] = None,
    *,
    json: Json = False,
    console: Console,
    stop: StopRequest,
) -> None:
    """Check an output's signature and SHA-256, and its unchanged areas against INPUT.

    The exit code is 0 if everything is the same, 3 if something differs, 4 if not everything could be compared, and
    1 if something cannot be read.
    """
    from rtface.trust.sidecar import read_sidecar, sidecar_path

    if input is None and len(outputs) == 2:
        sidecar, second_sidecar = (sidecar_path(Path(name)) for name in outputs)
        is_input = sidecar.is_file() and read_sidecar(sidecar)["input"]["name"] == Path(outputs[1]).name
        if is_input or not second_sidecar.is_file():
            input = Path(outputs.pop())
    if input is not None and len(outputs) > 1:
        raise UsageError("--input can be combined with only one OUTPUT", code="input_one")
    codes: list[int] = []
    for name in outputs:
        try:
            codes.append(_check(Path(name), input, trust, json, console, stop))
        except RtfaceError as error:
            if len(outputs) == 1:
                raise
            codes.append(explain(error, console))
            if json:
                print_json({"output": name, "error": " ".join(str(error).split())})
    raise typer.Exit(next((code for code in (DIFFERS, FAILED, NOT_CHECKED) if code in codes), max(codes)))


def _check(path: Path, input: Path | None, trust: Path | None, json: bool, console: Console, stop: StopRequest) -> int:
    from rtface.trust.verify import verify as check

    show_status = SteadyStatus(console)
    result = check(
        path,
        input=input,
        trust=trust,
        doing=lambda step, done: show_status(f"{path.name}: {step}, {done:.0%}"),
        stop=stop.event,
    )
    console.clear()
    if json:
        print_json(result.to_dict())
    for note in result.notes:
        console.log(note)
    prefix = f"{path.name}: "  # some lines begin with the file's name, which would appear twice
    for gap in result.gaps:
        console.log(f"{prefix}not checked: {gap.removeprefix(prefix)}", "warning")
    for proof in result.proofs:
        console.log(f"{prefix}{proof.removeprefix(prefix)}")
    for problem in result.problems:
        console.log(f"{path}: {problem.removeprefix(prefix)}", "error")
    outcomes = {"sidecar": result.sidecar, "credentials": result.credentials, "input": result.input}
    parts = [f"{name}: {outcome}" for name, outcome in outcomes.items() if outcome != "not checked"]
    if result.gaps:
        parts.append("not everything could be compared: not checked")
    summary = ", ".join(parts) or "nothing could be checked"
    console.log(f"{path}: {summary}", "info" if result.same else "error" if result.differs else "warning")
    return 0 if result.same else DIFFERS if result.differs else NOT_CHECKED

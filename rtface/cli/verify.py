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
"""Exit codes where an output differs from its manifest or input, and where nothing, or not everything, could be
compared."""


@command()
def verify(
    outputs: Annotated[
        list[str],
        typer.Argument(
            metavar="OUTPUT... [INPUT]",
            show_default=False,
            help=(
                "Films, stills or folders of stills with sidecars next to them or credentials in them. Of two names, "
                "the second is the INPUT of the first if the second has no sidecar."
            ),
        ),
    ],
    input: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The INPUT of OUTPUT, to check that nothing else was changed."),
    ] = None,
    trust: Annotated[
        Path | None,
        typer.Option(metavar="CA.pem", help="Trust signers whom these certificates (PEM) vouch for."),
    ] = None,
    *,
    json: Json = False,
    console: Console,
    stop: StopRequest,
) -> None:
    """Check an output's signature and SHA-256, and its unchanged areas by INPUT.

    The exit code is 0 where everything is the same, 3 where something differs, 4 where not all of it could be
    compared, and 1 where something cannot be read.
    """
    from rtface.trust.sidecar import read_sidecar, sidecar_path

    if input is None and len(outputs) == 2:
        sidecar, other = (sidecar_path(Path(name)) for name in outputs)
        made_of = sidecar.is_file() and read_sidecar(sidecar)["input"]["name"] == Path(outputs[1]).name
        if made_of or not other.is_file():
            input = Path(outputs.pop())
    if input is not None and len(outputs) > 1:
        raise UsageError("--input names the INPUT of one OUTPUT that is checked", code="input_one")
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

    show = SteadyStatus(console)
    result = check(
        path,
        input=input,
        trust=trust,
        doing=lambda step, done: show(f"{path.name}: {step}, {done:.0%}"),
        stop=stop.event,
    )
    console.clear()
    if json:
        print_json(result.to_dict())
    for note in result.notes:
        console.log(note)
    prefix = f"{path.name}: "  # some lines begin with the file's name, which is shown already
    for gap in result.gaps:
        console.log(f"{prefix}not checked: {gap.removeprefix(prefix)}", "warning")
    for proof in result.proofs:
        console.log(f"{prefix}{proof.removeprefix(prefix)}")
    for problem in result.problems:
        console.log(f"{path}: {problem.removeprefix(prefix)}", "error")
    answers = {"sidecar": result.sidecar, "credentials": result.credentials, "input": result.input}
    parts = [f"{name}: {answer}" for name, answer in answers.items() if answer != "not checked"]
    if result.gaps:
        parts.append("not everything could be compared: not checked")
    shown = ", ".join(parts) or "nothing could be checked"
    console.log(f"{path}: {shown}", "info" if result.same else "error" if result.differs else "warning")
    return 0 if result.same else DIFFERS if result.differs else NOT_CHECKED

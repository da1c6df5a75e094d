"""``rtface doctor``: checks the installation and shows how to repair each fault."""

from __future__ import annotations

import typer

from rtface.cli.command import FAILED, Json, command
from rtface.cli.console import Console, print_json, print_text


@command()
def doctor(*, json: Json = False, console: Console) -> None:
    """Check this installation, and show how to repair each fault."""
    from rtface.cli.doctor_checks import examine

    findings = examine()
    faults = sum(1 for finding in findings if finding.state == "fault")
    if json:
        print_json({"ok": not faults, "findings": [finding.to_dict() for finding in findings]}, indent=2)
    else:
        width = max(len(finding.name) for finding in findings)
        for finding in findings:
            mark = "-" if finding.state == "ok" and finding.repair else finding.state  # missing, but rarely needed
            print_text(f"{mark:5}  {finding.name:{width}}  {finding.detail}")
            if finding.repair:
                print_text(f"{'':{width + 9}}-> {finding.repair}")
    if faults:
        console.log(f"{faults} fault{'s' * (faults > 1)} found", "error")
    raise typer.Exit(FAILED if faults else 0)

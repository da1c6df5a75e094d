"""``rtface damage``: proposes a mask of a photograph's damage."""

from __future__ import annotations

import shlex
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from rtface.cli import early_checks
from rtface.cli.command import Json, command
from rtface.cli.console import Console, print_json, print_text
from rtface.config.option_sources import LoadedOptions
from rtface.errors import UsageError


@command("overwrite", "threads")
def damage(
    input: Annotated[Path, typer.Argument(metavar="INPUT", show_default=False, help="A photograph.")],
    mask: Annotated[Path, typer.Argument(metavar="MASK.png", show_default=False, help="The mask to write.")],
    *,
    json: Json = False,
    loaded: LoadedOptions,
    console: Console,
) -> None:
    """Propose a mask of a photograph's damage: cracks, folds, scratches, stains, holes, torn edges.

    Look at the mask, and correct it in the studio or in an image editor: white is damaged. Then fill the damage by
    'rtface run INPUT OUTPUT --repair MASK.png'.
    """
    early_checks.check_inputs([input])
    from rtface.media.files.outputs import OutputPath, check_outputs
    from rtface.media.stills.images import read_image
    from rtface.pipeline.repair import open_repairer
    from rtface.repair.mask import write_mask

    if mask.suffix.lower() != ".png":
        raise UsageError("{path}: a mask is a PNG file; write NAME.png instead", code="mask_name", path=mask)
    (target,) = check_outputs([OutputPath(mask)], inputs=[input], overwrite=loaded.options.overwrite)
    with ExitStack() as stack:
        repairer = open_repairer(loaded.options, stack, loaded.options.threads)
        proposal = repairer.propose(read_image(input).frame)
    write_mask(target, proposal.mask)
    share, unsure = round(proposal.share, 6), round(proposal.unsure, 6)
    command_line = shlex.join(["rtface", "run", str(input), f"{input.stem}.repaired.png", "--repair", str(mask)])
    if json:
        print_json({"mask": str(target.path), "share": share, "unsure": unsure, "command": command_line})
        return
    console.log(f"{mask}: {share:.2%} of the pixels are marked; {unsure:.2%} may be damaged, but are not marked")
    console.log("look at the mask, then run:")
    print_text(command_line)

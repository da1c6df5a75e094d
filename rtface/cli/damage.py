"""``rtface damage``: proposes a mask of a photograph's damage."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from rtface.cli import early_checks
from rtface.cli.command import Json, command
from rtface.cli.console import Console, print_json, print_text
from rtface.config.option_sources import LoadedOptions
from rtface.errors import InputError, RtfaceError, UsageError
from rtface.util.text import shell_line


@command("overwrite", "threads")
def damage(
    input: Annotated[Path, typer.Argument(metavar="INPUT", show_default=False, help="A photograph, or a folder.")],
    mask: Annotated[Path, typer.Argument(metavar="MASK.png|FOLDER", show_default=False, help="The mask, or masks.")],
    *,
    json: Json = False,
    loaded: LoadedOptions,
    console: Console,
) -> None:
    """Propose a mask of a photograph's damage: cracks, folds, scratches, stains, holes, torn edges.

    Look at the mask, and correct it in the studio or in an image editor: white is damaged. Then fill the damage by
    'rtface run INPUT OUTPUT --repair MASK.png'. For a folder of photographs, a folder of masks is written.
    """
    early_checks.check_inputs([input])
    from rtface.media.files.image_names import list_images
    from rtface.media.files.outputs import OutputPath, check_outputs
    from rtface.media.stills.images import read_image
    from rtface.pipeline.repair import open_repairer
    from rtface.repair.mask import mask_name, write_mask

    folder = input.is_dir()
    if not folder and mask.suffix.lower() != ".png":
        raise UsageError("{path}: a mask is a PNG file; write NAME.png instead", code="mask_name", path=mask)
    (target,) = check_outputs([OutputPath(mask, folder=folder)], inputs=[input], overwrite=loaded.options.overwrite)
    pairs = [(path, mask / mask_name(path)) for path in list_images(input)] if folder else [(input, mask)]
    if folder:
        mask.mkdir(parents=True, exist_ok=True)
    masks, faults = list[dict[str, object]](), list[RtfaceError]()
    with ExitStack() as stack:
        repairer = open_repairer(loaded.options, stack, loaded.options.threads)
        for path, written in pairs:
            try:
                proposal = repairer.propose(read_image(path).frame)
            except InputError as error:
                if not folder:
                    raise
                faults.append(error)
                console.log(error.message, "warning")
                continue
            write_mask(replace(target, path=target.path / written.name) if folder else target, proposal.mask)
            share, unsure = round(proposal.share, 6), round(proposal.unsure, 6)
            masks.append({"input": str(path), "mask": str(written), "share": share, "unsure": unsure})
            if not json:
                line = f"{written}: {share:.2%} of the pixels are marked"
                console.log(f"{line}; {unsure:.2%} may be damaged, but are left for you to mark")
    output = f"{input.name}-repaired/" if folder else f"{input.stem}.repaired.png"
    line = shell_line(["rtface", "run", str(input), output, "--repair", str(mask)])
    if json:
        print_json({"masks": masks, "command": line} if folder else masks[0] | {"command": line})
    else:
        console.log("look at the mask, then run:")
        print_text(line)
    if faults:
        raise InputError(
            "{count} of {all} photographs cannot be read", code="damage_unread", count=len(faults), all=len(pairs)
        )

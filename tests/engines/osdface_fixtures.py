"""What the published OSDFace tells its denoising network, kept small. Run outside the project, where diffusers is
installed, against a copy of its repository:

    python -m tests.engines.osdface_fixtures REPOSITORY

REPOSITORY is a checkout of jkwang28/OSDFace. Writes ``engines/osdface/osdface.keys.txt`` and
``tests/engines/osdface.npz``. Low-rank changes are not listed: where they are stands
in a file of weights only.
"""

from __future__ import annotations

import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np

from tests.engines.drawn import drawn_crops, drawn_state
from tests.engines.osediff_fixtures import UNET, VAE

HERE = Path(__file__).parent
WIDTH, SIZE, COUNT = 32, 384, 2


def main(repository: str) -> None:
    import torch
    from diffusers import AutoencoderKL, UNet2DConditionModel

    sys.path.insert(0, repository)
    from lq_embed import TwoLayerConv1x1  # pyright: ignore[reportMissingImports]
    from lq_embed.vqvae import VQVAEencoder  # pyright: ignore[reportMissingImports]

    args = types.SimpleNamespace(cat_prompt_embedding=False, use_att_pool=False, use_pos_embedding=False)
    sizes: dict[str, Any] = {"embed_dim": 512, "z_channels": 512, "attn_resolutions": [16]}
    with torch.device("meta"):
        nets = {"unet": UNet2DConditionModel(**UNET), "vae": AutoencoderKL(**VAE),
                "vqvae_LQ": VQVAEencoder(args, **sizes), "embedding_change": TwoLayerConv1x1(512, 1024)}  # fmt: skip
    git = ["git", "-C", repository, "rev-parse", "HEAD"]
    commit = subprocess.run(git, check=True, capture_output=True, text=True).stdout.strip()
    lines = ["# github: jkwang28/OSDFace, with diffusers 0.35.2 for Stable Diffusion 2.1 base", f"# commit: {commit}",
             "# command: python -m tests.engines.osdface_fixtures REPOSITORY",
             *(f"{part}.{key} {'x'.join(map(str, value.shape)) or '-'}"
               for part, net in nets.items() for key, value in net.state_dict().items())]  # fmt: skip
    target = HERE.parents[1] / "engines" / "published" / "osdface" / "osdface.keys.txt"
    target.write_text("\n".join(lines) + "\n", encoding="utf-8")

    # The encoder has attention where its maps are smallest. One crop at a time: its choice does not take several.
    look = VQVAEencoder(args, ch=WIDTH, resolution=SIZE, **(sizes | {"attn_resolutions": [SIZE // 32]}))
    change = TwoLayerConv1x1(512, 1024)
    for net in (look, change):
        shapes = {key: tuple(value.shape) for key, value in net.state_dict().items()}
        net.load_state_dict({key: torch.from_numpy(value) for key, value in drawn_state(shapes).items()})
        net.eval().double()
    with torch.no_grad():
        crops = (torch.from_numpy(drawn_crops(COUNT, SIZE)).double() - 0.5) / 0.5
        chosen = torch.cat([look(crop[None]) for crop in crops]).double()
        told = change(chosen)
    filled = (chosen.abs().sum(2) > 0).sum(1)
    print("entries chosen:", filled.tolist())
    np.savez_compressed(HERE / "osdface.npz", told=told.numpy().astype(np.float32)[:, :, ::16])


if __name__ == "__main__":
    main(sys.argv[1])

"""What the published OSEDiff answers at a small size, kept small. Run outside the project, where diffusers (0.35),
transformers (4.57) and peft are installed, against a copy of its repository:

    python -m tests.engines.osediff_fixtures REPOSITORY

REPOSITORY is a checkout of cswry/OSEDiff. Writes the key lists in ``engines/osediff`` and
``tests/engines/osediff.npz``. Weights and crops are of `drawn`; the latent is the distribution's mean.
"""

from __future__ import annotations

import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np

from tests.engines.drawn import drawn_crops, drawn_state
from tests.engines.restoreformer_fixtures import digest

HERE = Path(__file__).parent
FOLDER = HERE.parents[1] / "engines" / "published" / "osediff"
SIZE, RANK = 128, 4
UNET = {"sample_size": 64, "cross_attention_dim": 1024, "attention_head_dim": [5, 10, 20, 20],
        "block_out_channels": (320, 640, 1280, 1280), "use_linear_projection": True}  # fmt: skip
VAE = {"down_block_types": ["DownEncoderBlock2D"] * 4, "up_block_types": ["UpDecoderBlock2D"] * 4,
       "block_out_channels": (128, 256, 512, 512), "layers_per_block": 2, "latent_channels": 4}  # fmt: skip
SMALL_UNET = UNET | {"block_out_channels": (32, 64, 128, 128), "attention_head_dim": [2, 4, 8, 8],
                     "cross_attention_dim": 64}  # fmt: skip
SMALL_VAE = VAE | {"block_out_channels": (32, 64, 96, 96)}
SMALL = {"widths": (32, 64, 128, 128), "pictures": (32, 64, 96, 96), "told": 64, "head": 16}
TEXT = {"vocab_size": 50, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
        "hidden_act": "gelu", "max_position_embeddings": 77}  # fmt: skip
NUMBERS = [48, 5, 6, 7, 6, 49, *[0] * 71]


def draw(shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """As `drawn_state`, but for changes that do not swell what is added up from block to block, beside which no block
    would count, and a picture within -1…1, where the network cuts it."""
    state = drawn_state(shapes)
    for name in state:
        if ".lora_B." in name:
            state[name] *= 0.1
    if "vae.decoder.conv_out.weight" in state:
        state["vae.decoder.conv_out.weight"] *= 0.1
    return state


def fill(net: Any, prefix: str = "", part: str = "") -> None:
    """Draws the tensors whose names hold ``part``, as ``prefix`` and their names."""
    import torch

    shapes = {prefix + k: tuple(v.shape) for k, v in net.state_dict().items() if part in k and v.is_floating_point()}
    state = {k.removeprefix(prefix): torch.from_numpy(v) for k, v in draw(shapes).items()}
    missing = net.load_state_dict(state, strict=False)
    assert not missing.unexpected_keys


def adapted(published: Any, unet: Any, vae: Any) -> None:
    """Puts the published low-rank adapters on both networks, by the published code."""
    args = types.SimpleNamespace(pretrained_model_name_or_path=None, lora_rank=RANK)
    published.UNet2DConditionModel = types.SimpleNamespace(from_pretrained=lambda *_, **__: unet)
    published.AutoencoderKL = types.SimpleNamespace(from_pretrained=lambda *_, **__: vae)
    published.initialize_unet(args)
    published.initialize_vae(args)
    unet.set_adapter(["default_encoder", "default_decoder", "default_others"])
    vae.set_adapter(["default_encoder"])


def main(repository: str) -> None:
    import torch
    from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    # The repository's copies of the library's networks are of an older version of it; the library itself stands in.
    for name, kind in (("autoencoder_kl", AutoencoderKL), ("unet_2d_condition", UNet2DConditionModel)):
        stand_in: Any = types.ModuleType(f"models.{name}")
        setattr(stand_in, kind.__name__, kind)
        sys.modules |= {"models": types.ModuleType("models"), f"models.{name}": stand_in}
    sys.path.insert(0, repository)
    import osediff as published  # pyright: ignore[reportMissingImports]

    git = ["git", "-C", repository, "rev-parse", "HEAD"]
    commit = subprocess.run(git, check=True, capture_output=True, text=True).stdout.strip()
    head = ["# github: cswry/OSEDiff, with diffusers 0.35.2 for Stable Diffusion 2.1 base and peft",
            f"# commit: {commit}",
            "# command: python -m tests.engines.osediff_fixtures REPOSITORY"]  # fmt: skip

    def listed(name: str, state: dict[str, Any]) -> None:
        lines = head + [f"{key} {'x'.join(map(str, value.shape)) or '-'}" for key, value in state.items()]
        (FOLDER / name).write_text("\n".join(lines) + "\n", encoding="utf-8")

    with torch.device("meta"):
        unet, vae = UNet2DConditionModel(**UNET), AutoencoderKL(**VAE)
    both = {f"{part}.{k}": v for part, net in (("unet", unet), ("vae", vae)) for k, v in net.state_dict().items()}
    listed("osediff-face.keys.txt", both | {"prompt": torch.empty(1, 77, UNET["cross_attention_dim"])})
    adapted(published, unet, vae)
    changes = {f"unet.{k}": v for k, v in unet.state_dict().items() if "lora" in k or "conv_in" in k}
    listed("changes.keys.txt", changes | {f"vae.{k}": v for k, v in vae.state_dict().items() if "lora" in k})

    unet, vae = UNet2DConditionModel(**SMALL_UNET).eval(), AutoencoderKL(**SMALL_VAE).eval()
    fill(unet, "unet.")
    fill(vae, "vae.")
    adapted(published, unet, vae)
    for part in ("lora", "conv_in"):
        fill(unet, "unet.", part)
    fill(vae, "vae.", "lora")
    text = CLIPTextModel(CLIPTextConfig(**TEXT)).eval()
    fill(text)
    scheduler = DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False)
    kept: dict[str, np.ndarray] = {}
    for net in (unet, vae):
        net.eval().double()  # the last step makes rounding 15 times as large
    with torch.no_grad():
        prompt = text(torch.tensor([NUMBERS]))[0].double()
        kept["prompt"] = prompt.float().numpy()
        for count in (1, 3):
            crops = torch.from_numpy(drawn_crops(count, SIZE)).double()
            latent = vae.encode(crops).latent_dist.mode() * 0.18215
            noise = unet(latent, torch.tensor(999), encoder_hidden_states=prompt.expand(count, -1, -1)).sample
            clean = scheduler.step(noise, torch.tensor(999), latent).pred_original_sample
            answer = vae.decode(clean / 0.18215).sample.clamp(-1, 1).float().numpy()
            kept |= {f"{count}/{part}": values for part, values in digest(answer).items()}
            assert np.abs(answer).max() < 1, "cut: another width of the drawn weights is needed"
    np.savez_compressed(HERE / "osediff.npz", **kept)


if __name__ == "__main__":
    main(sys.argv[1])

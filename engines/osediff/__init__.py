"""OSEDiff's face model: Stable Diffusion in one step, for key frames on a GPU."""

"""OSEDiff's face model: Stable Diffusion in one step, for keyframes on a GPU."""

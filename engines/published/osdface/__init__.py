"""OSDFace: Stable Diffusion in one step, told what it sees by a dictionary. Without a licence it cannot be added."""

"""The CPU device: cuts crops out of native planes and composites corrections."""

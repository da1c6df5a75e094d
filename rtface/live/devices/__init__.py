"""Sources of this machine: cameras, microphones and the screen, listed and opened."""

"""Sources of this machine: cameras and microphones, listed and opened."""

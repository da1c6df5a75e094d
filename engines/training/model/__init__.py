"""The networks, and their memory of the previous frame."""

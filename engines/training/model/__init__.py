"""The networks, and how they use their answer for the frame before."""

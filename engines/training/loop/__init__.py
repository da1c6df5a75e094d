"""The training loop: optimiser, checkpoints, batches of sequences."""

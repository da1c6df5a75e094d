"""RestoreFormer and RestoreFormer++. They restore faces by cross-attention to a codebook of good faces."""

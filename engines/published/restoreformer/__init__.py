"""RestoreFormer and RestoreFormer++. Both restore faces by cross-attention to a codebook of good faces."""

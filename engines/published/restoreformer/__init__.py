"""RestoreFormer and RestoreFormer++, which restore faces by cross-attention to a codebook of good faces."""

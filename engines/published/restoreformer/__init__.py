"""RestoreFormer and RestoreFormer++: a codebook of good faces, read by cross-attention."""

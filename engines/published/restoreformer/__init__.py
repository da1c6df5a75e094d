"""RestoreFormer and RestoreFormer++: a codebook of high-quality faces, read by multi-head cross-attention."""

"""Training data: portraits, films and sequences of moving faces, and the shards that store them."""

"""Films in: opening, decoding that survives what files are like, and what streams say of themselves."""

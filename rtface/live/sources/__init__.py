"""Live inputs: a child process that opens and reads, a watch over it, and a common clock."""

"""Live inputs: a child process that opens and reads sources, its supervision, and a common clock."""

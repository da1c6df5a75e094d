"""Films out: the plan of every stream, encoders, and a file that appears under its name only when it is whole."""

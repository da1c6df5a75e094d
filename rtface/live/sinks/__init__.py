"""Live outputs to networks and files: child processes that encode, and transports that never block."""

"""Our implementations of published networks, in torch."""

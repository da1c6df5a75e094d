"""Our implementations of published networks; they need torch."""

"""What an output says of itself: provenance, and what was changed where."""

"""Recognition of persons: an embedding for each face track, and tracks of one person joined to that person."""

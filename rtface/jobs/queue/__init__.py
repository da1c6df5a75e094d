"""The queue of films and stills to enhance. Its database survives crashes and restarts (docs/films.md)."""

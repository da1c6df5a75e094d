"""The queue of films and stills to enhance, kept in a database; it outlasts crashes and restarts (docs/films.md)."""

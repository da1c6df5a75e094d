"""Films that finish: the queue of films, and job folders."""

"""Plans, builds and runs the pipeline for films, stills and segments."""

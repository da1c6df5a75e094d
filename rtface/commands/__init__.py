"""The commands of the command line, one module each; `rtface.cli` puts them together."""

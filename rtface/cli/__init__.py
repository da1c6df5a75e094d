"""The command line: commands, progress lines, and the checks of ``rtface doctor``."""

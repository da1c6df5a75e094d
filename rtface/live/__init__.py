"""Live runs: a camera or stream in, a virtual camera or stream out, with a ceiling on the delay."""

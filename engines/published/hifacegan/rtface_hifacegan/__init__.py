"""HiFaceGAN for rtface: network, offers, and the published names of its weights.

It contains no weights. The published weights forbid commercial use; see ``offers.toml``.
"""

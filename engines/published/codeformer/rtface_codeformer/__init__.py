"""CodeFormer as an engine of rtface: the network, what is offered, and the published names of its weights.

The weights are not here, and those that are published forbid commercial use; see ``offers.toml``.
"""

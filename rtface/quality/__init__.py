"""Adaptive quality of live runs: quality levels, the cost model, and the governor that picks a level."""

"""Repairs damaged photographs: proposes masks of the damage, and fills it.

Damage is filled only where a mask marks it: a mask that a person drew or accepted, or a proposal on request
(``--repair auto``).
"""

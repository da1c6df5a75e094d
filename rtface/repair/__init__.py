"""Repair of damaged photographs: finds damage, and fills it."""

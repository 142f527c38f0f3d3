"""Worlds that can be written down, and the exact quantities of a policy in them."""

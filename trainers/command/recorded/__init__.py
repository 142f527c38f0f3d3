"""Completions that are there already: read, scored (`python -m rewards.score`), audited (`python -m lab.audit completions=...`)."""

"""Environments: what a policy plays with through tools, guarded, and what was earned in them by turn."""

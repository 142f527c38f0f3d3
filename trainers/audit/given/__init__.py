"""Completions in the place of sampled ones: their tokens, and whether the audited policy can have drawn them."""

"""A strategy against the truth: its mean, its noise, its declarations."""

"""The truth about credit: enumerable worlds, exact gradients, and what any strategy makes of them.

Shapes, beside those of credit/batch.py: N texts of all prompts of a world, I items (texts that a strategy cannot tell apart),
S states at which the policy acts, A actions, D parameters of the policy.
"""

"""Sequence temperature at inference time: sampling from p(x)^alpha / Z instead of tempering every token.

model.py      what a sampler needs of a language model; tabular.py (enumerable) and causal_lm.py (transformers)
tempering.py  the identity p(x)^alpha = q(x) prod_t Z_t, and tau -> alpha
particles.py  rows that grow token by token: the one loop every sampler shares
ancestral.py (token temperature)  snis.py  rejection.py  smc.py  mh.py (suffixes and blocks): the samplers
draws.py      what a sampler returns, with its diagnostics
exact.py      everything by enumeration, for models small enough

Shapes, beside those of credit/batch.py: N rows that grow (particles, chains), S texts returned for each prompt; T new tokens.
"""

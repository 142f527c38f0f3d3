"""What a model is worth on held-out prompts: completions collected, measured with intervals, compared prompt by prompt.

`eval_model.py` (trainers/run/eval_model.py) and a training run's own evaluations share all of it.
"""

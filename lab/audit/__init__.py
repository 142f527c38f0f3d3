"""The audit: how noisy and how biased is a credit strategy on a model and a task, measured on the gradients themselves."""

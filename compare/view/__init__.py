"""python -m compare.view: the completions of a run, each token coloured by its credit."""

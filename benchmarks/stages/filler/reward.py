"""The reward of benchmarks/stages/filler/real_runs.py: is the first letter of the text the prompt's?"""


def first_letter(prompts, completions, **columns):
    return [float(text[:1] == prompt[-1:]) for prompt, text in zip(prompts, completions, strict=True)]

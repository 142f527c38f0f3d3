"""`python -m apportion.score reward.funcs=[my_rewards.py:polite] --completion "please"` tries rewards on completions, from anywhere."""

from apportion.verbs import run

if __name__ == "__main__":
    run("score")

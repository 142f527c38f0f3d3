"""`python -m apportion.score reward.funcs=[my_rewards.py:polite] --text "please"` tries rewards on texts, from anywhere."""

from apportion.verbs import run

if __name__ == "__main__":
    run("score")

"""`accelerate launch -m apportion.train_lhts tau=0.7 horizon=8` fine-tunes towards a sequence temperature, from anywhere."""

from apportion.verbs import run

if __name__ == "__main__":
    run("train_lhts")

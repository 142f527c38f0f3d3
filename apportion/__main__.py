"""`python -m apportion train_grpo credit=seq_norm`, and the console script `apportion`."""

from apportion.verbs import main

if __name__ == "__main__":
    main()

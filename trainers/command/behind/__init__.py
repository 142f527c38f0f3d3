"""Commands that begin at runs: what a run brings of its own (task, rewards, model), and what the command says otherwise."""

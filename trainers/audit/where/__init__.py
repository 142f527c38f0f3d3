"""Where the update goes: parts of it by token position, length, turn and reward function."""

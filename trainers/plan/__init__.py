"""What a training command would do, said before it does it: `--dry-run`."""

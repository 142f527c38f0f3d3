"""Members that need more than rewards: one method a file."""

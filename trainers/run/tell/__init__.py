"""What a run tells of itself, beyond its numbers."""

"""What a run leaves behind for others: its model card, whatever else a model folder needs, and its way to the hub."""

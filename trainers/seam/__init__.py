"""Where TRL is met: weights folded into its loss, what is refused, checkpoints that resume exactly."""

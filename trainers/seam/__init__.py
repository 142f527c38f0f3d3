"""Where TRL is met: weights in its loss, what is refused, checkpoints that resume exactly."""

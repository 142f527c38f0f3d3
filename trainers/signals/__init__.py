"""Where providers of signals meet TRL: what they are asked with, their helpers, and the way of what they make into the batch."""

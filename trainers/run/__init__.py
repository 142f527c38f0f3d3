"""One run, from a prepared job to a finished folder."""

"""From the words of a command to what a run needs, everything checked before a model is loaded."""

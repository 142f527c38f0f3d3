"""The sweep engine: cells as processes, state as files. Knows training only as a command line."""

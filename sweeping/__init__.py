"""The sweep engine: cells as processes, state as files. Plain Python; knows training only as a command line."""

"""Run against run: sweeps, their report, the viewer, and the statistics behind them."""

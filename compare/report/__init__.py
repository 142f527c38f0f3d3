"""python -m compare.report: compares runs and writes one page about them."""

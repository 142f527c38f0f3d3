"""python -m lab.bench: strategies measured in many worlds, in worker processes."""

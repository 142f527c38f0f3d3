"""Critics in training: one base class, one file for each way to fit."""

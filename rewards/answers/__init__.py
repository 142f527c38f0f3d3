"""Answers: read out of texts as numbers, letters, formulas, and compared with the references of a row."""

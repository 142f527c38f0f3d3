"""The words of a command line: who says what, in which grammar, and what nobody reads."""

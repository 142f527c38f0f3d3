"""The words of a command line: who says what, in which grammar and of which type, and what nobody reads."""

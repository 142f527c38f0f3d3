"""Turns: what a conversation of several turns earned where, and credit by turn."""

"""Texts: completions as plain text, places in them, tags and code blocks."""

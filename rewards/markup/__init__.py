"""Tags and code blocks in a text."""

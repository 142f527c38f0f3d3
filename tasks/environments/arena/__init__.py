"""Games of the package textarena, played by tool calls."""

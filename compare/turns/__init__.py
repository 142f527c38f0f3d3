"""Conversations of several turns in a report: what turns earned, and where credit went."""

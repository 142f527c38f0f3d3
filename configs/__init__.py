"""The YAML groups, which say departures only, and what reads them: compose.py, schema.py (TRL's fields), fields/ (ours),
command_line/."""

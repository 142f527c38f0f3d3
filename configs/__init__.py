"""The YAML groups, and what reads them: compose.py, schema.py, command_line/."""

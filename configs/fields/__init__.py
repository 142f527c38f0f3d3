"""The settings of our own configuration: written once, where they are declared, and read from there.

declared.py reads them off the source; commands.py declares those of the commands themselves; defaults.py puts them beneath
the YAMLs, which say departures only, and checks names and types; help.py makes `--help` and page.py the tables of the docs,
both of what listing.py lists. TRL's own fields: configs/command_line/schema.py.
"""

"""What comes from users and what goes to them: files read, text made visible, printing and errors that never end a command."""

"""The policy: built here, or loaded; its prompts, adapters and warm start."""

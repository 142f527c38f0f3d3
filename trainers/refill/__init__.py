"""Dynamic sampling: groups without spread make room for groups of other prompts, before TRL makes anything of them."""

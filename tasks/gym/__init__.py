"""Tasks of the package reasoning-gym: more than a hundred generators of questions, each with its own scorer."""

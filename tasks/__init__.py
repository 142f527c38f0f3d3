"""Tasks: data and its ground truth. A task is a function that returns a `tasks.base.Task`; see docs/tasks.md."""

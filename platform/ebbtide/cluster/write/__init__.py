"""Changes to a live cluster: apply, remove, revise, and projects."""

"""Changes to a live cluster: apply, delete, change revisions, and manage projects."""

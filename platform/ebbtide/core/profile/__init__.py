"""Models of cluster profiles, and the built-in profile."""

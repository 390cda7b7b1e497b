"""A real cluster and the cases that run on it: what the translator claims, seen to happen."""

"""Readers of the input formats: each returns the native document and the origin of every field."""

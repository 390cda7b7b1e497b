"""One reader per input shape: each returns the native document and the origin of every field."""

"""Commands that simulate traffic and search for settings."""

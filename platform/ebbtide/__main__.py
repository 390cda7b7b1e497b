"""Entry point of ``python -m ebbtide``."""

from ebbtide.cli import entry

entry()

"""Strict reading and unambiguous writing of YAML and JSON."""

from ebbtide.manifests.reader import Document, find_faults, read
from ebbtide.manifests.writer import write, write_json, write_one

__all__ = ["Document", "find_faults", "read", "write", "write_json", "write_one"]

"""Strict reading and unambiguous writing of YAML and JSON."""

from ebbtide.core.manifests.faults import find_faults
from ebbtide.core.manifests.reader import Document, read_documents
from ebbtide.core.manifests.writer import write_document, write_documents, write_json

__all__ = ["Document", "find_faults", "read_documents", "write_document", "write_documents", "write_json"]

"""The node of kind, built from packages and modules alone, for machines without a registry."""

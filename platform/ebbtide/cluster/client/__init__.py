"""The protocol of a cluster, and the official client behind it."""

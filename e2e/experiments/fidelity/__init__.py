"""The simulator held against a cluster: the same requests at real speed, and what both make of them."""

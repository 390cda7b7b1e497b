"""A live cluster, observed and compared with a profile."""

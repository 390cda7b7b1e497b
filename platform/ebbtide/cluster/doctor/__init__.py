"""Comparison of a live cluster with a cluster profile."""

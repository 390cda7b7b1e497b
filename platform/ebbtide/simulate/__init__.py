"""Simulator of the autoscaler's response to traffic, built on `ebbtide.autoscaler`, and a search for settings."""

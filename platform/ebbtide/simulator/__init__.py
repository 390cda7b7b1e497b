"""Simulator of the autoscaler's response to traffic, built on `ebbtide.core.autoscaler`, and a search for settings."""

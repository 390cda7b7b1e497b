"""Desired state of a workload: pydantic models by topic, and rules between fields."""

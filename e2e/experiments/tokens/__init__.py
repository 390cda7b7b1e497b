"""Comparison of the simulator's language model with a real one: load tests, then a replay, predicted and measured."""

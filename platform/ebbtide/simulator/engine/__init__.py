"""Discrete-event simulation of one workload: its state, its compiled kernel, its measurements and its report."""

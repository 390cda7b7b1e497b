"""The serving object of a workload: the choice of its kind, the checks, and one file per kind."""

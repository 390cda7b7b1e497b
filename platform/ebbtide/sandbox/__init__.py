"""A cluster in memory, its demo workloads and traffic, and fakes: for tests and `serve --demo`."""

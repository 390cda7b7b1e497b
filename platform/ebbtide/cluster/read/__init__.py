"""Live workloads: read, grouped, given a status and explained."""

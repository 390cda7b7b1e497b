"""Live workloads: list them, group their objects, derive their status and explain their replicas."""

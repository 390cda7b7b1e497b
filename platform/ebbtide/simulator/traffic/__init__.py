"""Traffic and servers of a simulation: arrivals from logs and shapes, and the durations of requests."""

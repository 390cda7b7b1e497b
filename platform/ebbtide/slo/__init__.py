"""What was promised and what was kept: response times, uptime, cold starts, budgets, from measured requests."""

"""SLO reports and alerts: response times, uptime, cold starts and error budgets, from measured requests."""

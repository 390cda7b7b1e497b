"""Search for settings that meet an SLO, and the request that starts a simulation or a search."""

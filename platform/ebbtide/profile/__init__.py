"""What a cluster offers: the models of a profile, and the built-in one."""

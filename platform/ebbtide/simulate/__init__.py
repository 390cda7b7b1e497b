"""What the autoscaler will do with your traffic: a simulator around `ebbtide.autoscaler`, and a search for settings."""

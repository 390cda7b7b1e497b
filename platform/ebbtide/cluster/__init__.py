"""Live cluster access: one client protocol with a real and a simulated implementation, and the reads and writes on top of it.

The translation never imports this package; only the commands that need a cluster do.
"""

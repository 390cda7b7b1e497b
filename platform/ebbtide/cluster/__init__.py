"""A live cluster: one protocol, a real and a simulated one behind it, and what is read from and done to either.

Nothing of the translation imports this package; the commands that need a cluster do.
"""

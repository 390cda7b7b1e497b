"""A cluster on a plain Linux machine: one node in separate namespaces, with upstream's programs.

As kind's node is a container, ours is one without an engine: a process with its own network, mounts and process ids.
What runs inside dies with it, and its mounts, links and firewall rules go with the namespaces that held them.
"""

"""The cluster client protocol, and its implementation over the official Kubernetes client."""

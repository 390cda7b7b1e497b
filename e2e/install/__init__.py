"""What goes into a cluster: read from the modules' own manifests, fitted by our kustomize components, applied, awaited.

The same for every provider; only the images' names differ.
"""

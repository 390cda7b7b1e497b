"""Installation of a cluster: reads the modules' own manifests, adapts them by the kustomize components, applies and waits.

The same for every provider; only the images' names differ.
"""

"""Ebbtide turns a short inference spec into the Kubernetes objects that serve it on Knative and KServe.

``ebbtide.verbs`` has the public functions: load, check, translate, explain. They are not here, since a package's
attribute of a submodule's name is the submodule.
"""

__version__ = "0.1.0"

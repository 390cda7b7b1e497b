"""Knative Serving's own conformance tests, as they are and with each service rendered by Ebbtide."""

"""Ports of the autoscalers of Knative Serving and Kubernetes, whose decisions equal upstream's bit for bit.

Ported from knative.dev/serving v0.51.0 (Knative 1.24) and k8s.io/kubernetes v1.37.2, as built for amd64. Each module names
the files that it follows. No function reads a clock, uses random numbers or performs I/O: times are arguments, in seconds on
any scale that starts at the beginning of a UTC day, so that a simulator can run at any speed.

``windows`` averages measurements, ``metrics`` determines the number of pods to sample, ``targets`` resolves annotations and
ConfigMaps into numbers, ``kpa`` decides on a scale, ``reconciler`` applies the decision, ``activator`` computes the capacity
of the activator, and ``hpa`` is the Horizontal Pod Autoscaler. The simulator compiles functions marked with ``kernel``.
"""

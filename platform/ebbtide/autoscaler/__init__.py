"""The autoscalers of Knative Serving and Kubernetes as arithmetic: decisions equal upstream's, bit for bit.

Ported: knative.dev/serving v0.48.1 (Knative 1.21) and k8s.io/kubernetes v1.34.4, as built for amd64. Each module names
the files it follows. Nothing here looks at a clock, draws a random number or does I/O: times come in as arguments, in
seconds on any scale that starts at a whole day, so that a simulator can drive everything at its own pace.

``windows`` averages what was measured, ``metrics`` says how many pods are asked, ``targets`` resolves annotations and
ConfigMap into numbers, ``kpa`` decides on a scale, ``reconciler`` carries it out, ``activator`` has the capacity in front,
and ``hpa`` is the horizontal pod autoscaler. The simulator compiles what is marked as ``kernel``.
"""

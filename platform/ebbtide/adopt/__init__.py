"""Live objects become specs: a Knative Service or an InferenceService, read back."""

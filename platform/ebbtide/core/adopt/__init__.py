"""The import of live objects: a Knative Service or an InferenceService is converted back to a spec."""

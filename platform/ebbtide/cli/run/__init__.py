"""Commands that deploy workloads, call them, and manage their projects and keys."""

"""A cache of the cluster's objects and of workload statuses, kept current by watches, that knows the age of its data.

One thread per kind watches the API server and resumes after an interruption. Objects are stored packed, without fields
that are never read, and indexed by workload. A workload's status is computed on first use and kept until one of its
objects changes. For a simulated cluster there are no threads: each read first applies the pending changes.

The parts share one lock, ``changes.ChangeLog.lock``.
"""

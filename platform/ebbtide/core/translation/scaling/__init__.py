"""The autoscaler of a workload: the choice, the checks, and one file per autoscaler that Ebbtide renders."""

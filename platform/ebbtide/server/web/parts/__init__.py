"""Parts of pages: the frame, the charts, and what the page of a workload consists of: its actions, canary, logs and playground."""

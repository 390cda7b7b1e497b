"""Parts of several commands: options, input and output, and the connection to a cluster."""

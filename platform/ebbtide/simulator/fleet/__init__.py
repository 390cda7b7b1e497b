"""Several services on a shared pool of GPUs: the smallest pool, and changes that save."""

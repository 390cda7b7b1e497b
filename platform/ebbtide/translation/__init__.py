"""A spec and a profile become objects: the choices, the backends and the pure function that joins them."""

"""The translation of a spec and a profile into objects: the choices, the GPU backends, and one pure function."""

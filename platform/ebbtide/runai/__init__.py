"""Run:ai's formats, REST routes and the command `submit`, found through the registries."""

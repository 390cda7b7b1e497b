"""Commands that write, check, translate and explain specs."""

"""The translation of specs, as pure functions: same input, same bytes."""

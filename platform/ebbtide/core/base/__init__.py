"""Names, keys, quantities, versions and problems, which all other parts use."""

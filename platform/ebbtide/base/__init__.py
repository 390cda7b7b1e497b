"""Names, keys, amounts, versions and problems: what every other part builds on."""

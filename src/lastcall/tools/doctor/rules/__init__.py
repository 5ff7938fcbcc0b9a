"""The rules, by subject. Each module ends in its table."""

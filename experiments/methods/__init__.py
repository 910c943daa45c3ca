"""The compared methods by name."""

"""What is measured instead of trained: Sections 2 to 4 of the paper."""

"""Training many runs: in this process or in several."""

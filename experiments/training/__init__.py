"""From a run to its record: the loops, what is measured, checkpoints, the process."""

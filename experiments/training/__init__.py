"""From a run to its record: the loops, the measurements, checkpoints, the process."""

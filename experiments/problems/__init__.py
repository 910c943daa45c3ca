"""Models on data sets: what there is to minimise."""

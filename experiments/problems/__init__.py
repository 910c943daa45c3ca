"""The problems: models on data sets, with costs to minimise."""

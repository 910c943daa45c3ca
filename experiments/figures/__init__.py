"""Drawing what the analysis found."""

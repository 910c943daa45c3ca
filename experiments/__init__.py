"""The experiments of the Adam paper, from declaration to verdict."""

"""The data sets: their files, how to read them, and stand-ins for them."""

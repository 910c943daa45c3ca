"""The data sets: their files, how they are read, and stand-ins for them."""

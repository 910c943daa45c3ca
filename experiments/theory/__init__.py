"""What the paper says about Adam in Sections 1 to 5 and 7, measured in float64 instead of trained.

Each measurement is a generator function `(data, seed, settings, batch_size, epochs, options)` that
yields rows of finite numbers by name, with the same names in every row; its docstring says what a
row is. `settings` are those of `adam.Adam`, by the names of `experiments.methods.optimizers.adam`.
"""

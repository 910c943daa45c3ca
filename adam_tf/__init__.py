"""The optimizers of "Adam: A Method for Stochastic Optimization" (arXiv 1412.6980) for Keras 3."""

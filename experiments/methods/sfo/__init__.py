"""The Sum-of-Functions Optimizer of Sohl-Dickstein, Poole and Ganguli, the baseline of Figure 2b.

Written from the description of the method, in NumPy and float64.
"""

from experiments.methods.sfo.optimizer import SELECTIONS, SFO

__all__ = ["SELECTIONS", "SFO"]

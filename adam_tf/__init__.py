"""The optimizers of "Adam: A Method for Stochastic Optimization" (arXiv 1412.6980) for Keras 3.

`Adam` is Algorithm 1, `AdaMax` Algorithm 2, `InverseSqrtDecay` the step size of Section 4,
`WeightAveraging` Section 7.2. The README beside this file says how they differ from the Adam of
Keras, PyTorch and optax, and which settings reproduce those.
"""

from adam_tf.adam import Adam
from adam_tf.adamax import AdaMax
from adam_tf.averaging import WeightAveraging
from adam_tf.schedules import InverseSqrtDecay

__version__ = "0.1.0"  # pyproject.toml reads it here
__all__ = ["AdaMax", "Adam", "InverseSqrtDecay", "WeightAveraging"]

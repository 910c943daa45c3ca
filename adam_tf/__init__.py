"""The optimizers of "Adam: A Method for Stochastic Optimization" (arXiv 1412.6980) for Keras 3."""

from adam_tf.adam import Adam
from adam_tf.adamax import AdaMax
from adam_tf.averaging import WeightAveraging
from adam_tf.schedules import InverseSqrtDecay

__all__ = ["AdaMax", "Adam", "InverseSqrtDecay", "WeightAveraging"]

"""Names for what goes through the optimizers, whatever the backend."""

from typing import Any, TypeAlias

# A tensor of Keras' backend (or an array that it accepts as one), of any shape unless stated.
Tensor: TypeAlias = Any
# A tensor without dimensions, or a number.
Scalar: TypeAlias = Any
# A `keras.Variable`, or the backend's own, of any shape: what is trained, or a moment of it.
Variable: TypeAlias = Any

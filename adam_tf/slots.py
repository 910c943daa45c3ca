"""The state that an optimizer keeps for each variable: how it is named, laid out and updated."""

from typing import Any, NamedTuple

import keras

from adam_tf._keras import layout_of, path_of
from adam_tf.typing import Tensor, Variable


def state_name(variable: Variable, name: str) -> str:
    """What Keras calls the state `name` of a variable."""
    return f"{path_of(variable).replace('/', '_').replace(':', '_')}_{name}"


class Way(NamedTuple):
    """How the arithmetic of a variable is done."""

    dtype: str  # float32 or float64
    kernel: bool


class Scalars(NamedTuple):
    """The scalars of one step, by the kinds of arithmetic that it needs (None: not needed).

    Keras hands one value to each update, which it takes for the learning rate: this tuple. It must
    hold tensors, since `tf.distribute` looks into it.
    """

    step: Tensor  # t - 1 as int32
    decay: Any = None  # learning rate times weight decay in float32, for narrow variables
    float32: Any = None
    float64: Any = None
    float32_kernel: Any = None
    float64_kernel: Any = None

    @staticmethod
    def name(way: Way) -> str:
        """The field for a kind of arithmetic."""
        return way.dtype + "_kernel" * way.kernel

    def of(self, way: Way) -> Any:
        """The scalars for a kind of arithmetic."""
        return getattr(self, self.name(way))


class Slot:
    """What the optimizer keeps for one variable. Keras does not search it for variables."""

    def __init__(
        self,
        moments: list[keras.Variable],
        remainders: list[keras.Variable],
        way: Way,
        joined: Any | None,
    ) -> None:
        """See `MomentOptimizer.build`.

        Args:
            moments: one for each of `MomentOptimizer.moment_names`.
            remainders: of a narrow variable, its own and that of its average; else empty.
            way: how the arithmetic is done.
            joined: the `tensorflow.joined.Joined` that the variable belongs to, if any.
        """
        self.moments = moments
        self.remainders = remainders
        self.way = way
        self.joined = joined


def divided_layout(variable: Variable) -> object:
    """The layout of a variable, also divided over the devices that share a batch.

    The largest dimension that is still whole and that they divide evenly is split; without one, the
    layout stays as it is.

    Raises:
        ValueError: when there is no distribution.
    """
    distribution = keras.distribution.distribution()
    if distribution is None:
        raise ValueError(
            "divide_state=True needs keras.distribution.set_distribution, and a model made after it"
        )
    mesh, layout = distribution.device_mesh, layout_of(variable)
    axis = distribution.batch_dim_name
    devices = mesh.shape[mesh.axis_names.index(axis)]
    axes = list(getattr(layout, "axes", ())) or [None] * len(variable.shape)
    free = [
        (size, -d)
        for d, size in enumerate(variable.shape)
        if axes[d] is None and size % devices == 0 and size > 0
    ]
    if not free or axis in axes:
        return layout
    axes[-max(free)[1]] = axis
    return keras.distribution.TensorLayout(axes, mesh)

"""What the docstrings of all optimizers say of the arguments that they share."""

SHARED = """sparse: what a gradient of rows (`tf.IndexedSlices`) means. `"dense"`: the rows that are
            not named have gradient 0, as in the paper. `"lazy"`: they are left alone, moments
            included, until they occur again; faster, but a different algorithm (TensorFlow only:
            elsewhere Keras has no such gradients). `weight_decay` still applies to every row, and
            `cautious` counts the numbers of the named rows only.
        fused: `None` updates a variable (many small ones together) with one TensorFlow kernel where
            that is possible and with `keras.ops` elsewhere; `True` insists on the kernel (without
            `moments` and `cautious`), `False` on `keras.ops`.
        moments: `None` keeps the moments in float32, or float64 for a float64 variable.
            `"bfloat16"` halves that memory; they are rounded up or down at random, so that they are
            right on average (Gupta et al.), at the cost of noise: 0.4% in each rounding.
        cautious: `True` is a different algorithm (Liang et al.): where what is subtracted and the
            gradient have opposite signs, so that the step would go uphill, the step is 0, and the
            variable's other steps are multiplied by its size over 1 + the number of those that are
            left (a variable of one number makes half its step).
        divide_state: `True` divides the moments among the devices that share a batch under
            `keras.distribution` (stage 1 of ZeRO, Rajbhandari et al.; JAX only). `False` lays
            them out as their variable is.
        **kwargs: the keywords of every Keras optimizer (`weight_decay`, `clipnorm`, `use_ema`,
            `gradient_accumulation_steps`, `name`, ...). Under `tf.distribute`, as in Keras, each
            replica clips its own part of the gradient, before the parts are added up."""
SHARED_REFERENCES = """Gupta et al., Deep Learning with Limited Numerical Precision, ICML 2015.

        Liang et al., [Cautious Optimizers](https://arxiv.org/abs/2411.16085), 2024.

        Rajbhandari et al., ZeRO: Memory Optimizations Toward Training Trillion Parameter Models,
        SC 2020."""

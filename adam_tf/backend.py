"""What Keras' backend can do beyond `keras.ops`: `adam_tf.tensorflow`, or `adam_tf.plain`."""

import importlib

import keras

# Keras' backend is chosen when Keras is imported, once and for all.
backend = importlib.import_module(
    "adam_tf.tensorflow" if keras.backend.backend() == "tensorflow" else "adam_tf.plain"
)

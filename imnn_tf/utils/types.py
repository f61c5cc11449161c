"""Names for types that the type checker knows little or nothing of.

Keras and TensorFlow Probability ship no type information, so to the checker the names below that
stand for their objects are `Any`. They tell a reader what is meant.
"""

from typing import Any, TypeAlias

# What `np.asarray` and `tf.convert_to_tensor` both take: an array, a tensor, a number, or lists.
Numbers: TypeAlias = Any

# A `keras.Model`, layer, optimiser or variable.
KerasModel: TypeAlias = Any
KerasLayer: TypeAlias = Any
KerasOptimizer: TypeAlias = Any
KerasVariable: TypeAlias = Any

# A value that JSON can hold.
Json: TypeAlias = Any

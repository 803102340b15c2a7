"""The only room that imports jax, torch or tensorflow: the same names for each that Keras runs on.

`KERNELS` are the backend's fused attention kernels, fastest first; `compile_loop` compiles a function with decoding
loops in it, `while_loop` is such a loop, `write_slice` and `write_rows` write into a cache; `value_range` reads the
smallest and the largest value of a tensor where that is free of charge. `scan` is a loop over slices that is compiled
once, for calls in what `is_traced`; `rematerialize` has a function computed again for its gradient, `map_blocks` one
of blocks of tensors, block by block. `custom_gradient` gives a function the gradient that is written for it;
`vector_jacobian_product` is a gradient at once, of inputs, not of weights.
`keep_mask` draws masks of dropout, or is `None` where a hash costs less; `as_one_program` compiles what computes such
a hash; `dropout` applies a mask, or is `None` where choosing by one is as good as any way; `zeroed` puts zeros where
nothing must be seen; `multiply_no_nan` is a product with numbers whose zeros do that, or `None` where a choice costs no
more. `known_values` are those of a tensor where shapes may depend on them; `take_rows` and `spread_rows` are each
other's gradient. `not_before` puts what a gradient computes again after what it is computed for. `linear` is a product
of matrices with weights, `product` and `transposed_product` of any two; `linear_cross_entropy` is the loss of one, a
chunk of tokens at a time; `may_call_directly` says where a layer may do without Keras' own call. A backend's own file
has what it does in a way of its own, `functional` the rest. They are loaded at first use, because `selection` in this
room chooses the backend and has to run before Keras is imported.
"""

import importlib

__all__ = [
    "KERNELS",
    "as_one_program",
    "compile_loop",
    "custom_gradient",
    "dropout",
    "is_traced",
    "keep_mask",
    "known_values",
    "linear",
    "linear_cross_entropy",
    "map_blocks",
    "may_call_directly",
    "multiply_no_nan",
    "not_before",
    "product",
    "rematerialize",
    "scan",
    "spread_rows",
    "take_rows",
    "transposed_product",
    "value_range",
    "vector_jacobian_product",
    "while_loop",
    "write_rows",
    "write_slice",
    "zeroed",
]

_OF_THEIR_OWN = ("jax", "tensorflow", "torch")


def __getattr__(name):
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import keras

    functional = importlib.import_module(f"{__name__}.functional")
    backend = keras.backend.backend()
    own = importlib.import_module(f"{__name__}.{backend}") if backend in _OF_THEIR_OWN else functional
    globals().update({each: getattr(own, each, getattr(functional, each)) for each in __all__})
    return globals()[name]

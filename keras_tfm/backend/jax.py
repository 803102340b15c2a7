"""JAX: the cuDNN attention kernel, and loops compiled with the weights as arguments."""

import jax
import jax.numpy as jnp
import keras

from keras_tfm.backend.jax_cross_entropy import linear_cross_entropy
from keras_tfm.backend.jax_linear import linear, not_before, product, product_p, transposed_product
from keras_tfm.backend.jax_scan import scan
from keras_tfm.backend.kernel import Kernel, why_not_fused


def _why_not_cudnn(request):
    if jax.default_backend() != "gpu":
        return f"cuDNN runs on a GPU, and JAX computes on {jax.default_backend()}"
    if jnp.dtype(request.query.dtype).itemsize != 2:
        return f"cuDNN takes float16 and bfloat16, not {request.query.dtype}"
    if request.query.shape[-1] > 128 or request.query.shape[-1] % 8:
        return f"cuDNN takes head sizes up to 128 in steps of 8, not {request.query.shape[-1]}"
    if request.has_heads_apart:
        return "cuDNN takes the keys of a token side by side, not those of a head"
    if request.value.shape[-1] != request.query.shape[-1]:
        return "cuDNN takes one size for keys and values"
    return why_not_fused(request)


def _run_cudnn(request):
    is_causal = request.is_plain_causal
    mask = (
        None if is_causal else request.mask.materialize(request.query_length, request.key_length, open_empty_rows=True)
    )
    bias = request.bias()
    if bias is not None:  # less what all of a row have in common, for which half precision has no room
        seen = bias if mask is None else jnp.where(mask, bias, -1e30)
        bias = bias - jax.lax.stop_gradient(jnp.max(seen, axis=-1, keepdims=True))
    output = jax.nn.dot_product_attention(
        request.query,
        request.key,
        request.value,
        bias=None if bias is None else bias.astype(request.query.dtype),
        mask=mask,
        scale=request.scale,
        is_causal=is_causal,
        implementation="cudnn",
    )
    return output, None


__all__ = [
    "KERNELS",
    "compile_loop",
    "custom_gradient",
    "is_traced",
    "keep_mask",
    "linear",
    "linear_cross_entropy",
    "map_blocks",
    "not_before",
    "product",
    "rematerialize",
    "scan",
    "transposed_product",
    "value_range",
    "vector_jacobian_product",
]

KERNELS = (Kernel("cudnn", _why_not_cudnn, _run_cudnn),)

keep_mask = None  # a hash, which XLA fuses into its use


def compile_loop(function, variables):
    """Compiles `function`; the values of `variables` are inputs, so that no weight becomes a constant."""
    variables = list(variables)

    def with_weights(values, *args):
        with keras.StatelessScope(state_mapping=list(zip(variables, values, strict=True))):
            return function(*args)

    compiled = jax.jit(with_weights)
    return lambda *args: compiled([variable.value for variable in variables], *args)


def value_range(tensor):
    """The smallest and largest value of a tensor in host memory; `None` if traced, elsewhere or empty."""
    if isinstance(tensor, jax.core.Tracer) or not hasattr(tensor, "devices") or tensor.size == 0:
        return None
    if any(device.platform != "cpu" for device in tensor.devices()):
        return None
    return int(tensor.min()), int(tensor.max())


def custom_gradient(forward, backward):
    """`forward` with the gradient `backward`; see `keras_tfm.backend.functional.custom_gradient`."""
    function = jax.custom_vjp(lambda *args: forward(*args)[0])
    function.defvjp(forward, backward)
    return function


def vector_jacobian_product(function, inputs, cotangent):
    """The gradient of `sum(cotangent * function(*inputs))`; see `functional.vector_jacobian_product`."""
    result, pull_back = jax.vjp(function, *(jnp.asarray(x) for x in inputs))
    cotangent = cotangent(result) if callable(cotangent) else cotangent
    return result, list(pull_back(jnp.asarray(cotangent, result.dtype)))


def is_traced():
    """Whether what runs now becomes part of a program."""
    return isinstance(jnp.zeros(()), jax.core.Tracer)


def rematerialize(function, keeps_products=False, is_looped=False):
    """`function`, of and to trees of tensors; see `keras_tfm.backend.functional.rematerialize`."""
    policy = _keep_products if keeps_products else None
    # Forward and backward loops are two programs, in which no compiler looks for what both compute.
    return jax.checkpoint(function, policy=policy, prevent_cse=not is_looped)


def _keep_products(primitive, *args, **parameters):
    is_product = primitive is product_p
    return is_product or jax.checkpoint_policies.dots_with_no_batch_dims_saveable(primitive, *args, **parameters)


def map_blocks(function, blocks):
    """`function(*block)` for each block, stacked; see `keras_tfm.backend.functional.map_blocks`."""
    # A loop of one step is no loop to the compiler, which would find that all was computed already.
    function = jax.checkpoint(function, prevent_cse=blocks[0].shape[0] == 1)
    return jax.lax.map(lambda block: function(*block), tuple(blocks))

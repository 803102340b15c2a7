"""Models of other libraries under our searches, and ours under theirs; their packages are imported when called."""

from keras_tfm.interop.keras_hub_causal_lm import KerasHubCausalLM
from keras_tfm.interop.keras_hub_samplers import KerasHubSampler, generate_with_keras_hub_sampler

__all__ = ["KerasHubCausalLM", "KerasHubSampler", "generate_with_keras_hub_sampler"]

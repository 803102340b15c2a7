import keras
import pytest


def pytest_configure(config):
    config.addinivalue_line("markers", "requires_trainable_backend: a mark of Keras' own tests; all our backends train")


@pytest.fixture(scope="module", autouse=True)
def _quick_compilation():
    """Each operation runs but once or twice for a shape: JAX would spend most of the time optimizing it."""
    if keras.backend.backend() != "jax":
        yield
        return
    import jax

    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)

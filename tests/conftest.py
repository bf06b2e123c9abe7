import os
import signal

import jax
import pytest

# Tiny programs run for milliseconds and compile for seconds; this halves the seconds.
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_backend_optimization_level=0"

# In the background of a shell SIGINT is ignored, in the programs that tests start as well; tests send it.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def compiled_programs_are_shared(tmp_path_factory):
    """Most tests compile the same few tiny programs; subprocesses find the folder in their environment."""
    folder = str(tmp_path_factory.mktemp("xla"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAX_COMPILATION_CACHE_DIR", folder)
        jax.config.update("jax_compilation_cache_dir", folder)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
        yield


@pytest.fixture
def key():
    return jax.random.key(7)

import jax
import pytest


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

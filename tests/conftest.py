import gc
import os
import signal
import subprocess
import sys
from pathlib import Path

import jax
import pytest

# Tiny programs run for milliseconds and compile for seconds; these halve the seconds, twice.
QUICK_TO_COMPILE = (
    "--xla_backend_optimization_level=0",
    "--xla_cpu_parallel_codegen_split_count=1",  # parts of a program, compiled side by side; each one costs
    "--xla_cpu_use_fusion_emitters=false",
    "--xla_llvm_enable_alias_scope_metadata=false",
    "--xla_llvm_enable_noalias_metadata=false",
    "--xla_llvm_enable_invariant_load_metadata=false",
    "--xla_disable_hlo_passes=hlo-verifier",  # XLA's check of what its own passes do
)


def compile_quickly():
    """For this process and those that it starts; XLA ends a process at a flag that its version does not know."""
    before = os.environ.get("XLA_FLAGS", "")
    if QUICK_TO_COMPILE[0] in before:  # of a worker, by the process that started it
        return
    for flags in (QUICK_TO_COMPILE, QUICK_TO_COMPILE[:1]):
        os.environ["XLA_FLAGS"] = " ".join((before, *flags))
        if not subprocess.run((sys.executable, "-c", "import jax; jax.devices()"), capture_output=True).returncode:
            return
    os.environ["XLA_FLAGS"] = before


compile_quickly()
if sys.dont_write_bytecode:  # each worker would compile all tests, and each program all of our modules; both takes seconds
    sys.dont_write_bytecode = False
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
os.environ["JAX_DEFAULT_MATMUL_PRECISION"] = "highest"  # tests compare products closer than a GPU or TPU computes them by default
jax.config.update("jax_default_matmul_precision", "highest")

# In the background of a shell SIGINT is ignored, in the programs that tests start as well; tests send it.
signal.signal(signal.SIGINT, signal.default_int_handler)

# A worker takes whole files (--dist=loadfile), whose fixtures are then made once; the longest come first, so that all workers end
# at about the same time.
# fmt: off
LONGEST_FILES = (
    "test_leaderboard", "test_audit", "test_docs", "test_stages", "test_loop", "test_extend", "test_repair",
    "test_experiment", "test_prompts", "test_parallel", "test_terminal", "test_real_run", "test_step", "test_report",
    "test_experiment_stages", "test_ranking", "test_prompt", "test_damage", "test_lowering", "test_backbones",
    "test_benchmark", "test_other_attacks", "test_shared_programs", "test_repairs", "test_sasrec", "test_prepare_data",
    "test_rank_kernel", "test_fuzz_readers", "test_import", "test_flags", "test_zoo", "test_notebooks", "test_torch_file",
    "test_divergence", "test_widening", "test_house", "test_last_item", "test_item_updates", "test_plugin", "test_pea",
    "test_preemption", "test_negatives", "test_reading_properties",
)
# fmt: on


def pytest_xdist_auto_num_workers() -> int:
    """One more than there are cores: tests wait a third of their time, for programs that they start."""
    return 1 + (len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


def pytest_collection_finish():
    """Leaves what the libraries made to itself; looking through it takes a tenth of the time of a test that compiles."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector):
    """Each worker begins with another part of the tests, and finds what the others have compiled by then."""
    report = yield
    worker = getattr(collector.config, "workerinput", None)
    if worker and isinstance(collector, pytest.Directory) and report.result:
        first = len(report.result) * int(worker["workerid"].removeprefix("gw")) // worker["workercount"]
        report.result = report.result[first:] + report.result[:first]
    return report


def pytest_collection_modifyitems(items):
    places = {name: place for place, name in enumerate(LONGEST_FILES)}
    items.sort(key=lambda item: (places.get(item.path.stem, len(places)), item.path))  # the same order in all workers


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory) -> Path:
    """A folder of this run of the tests and of all its workers."""
    folder = tmp_path_factory.getbasetemp()
    return folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder  # the workers' own ones are in it


@pytest.fixture(scope="session")
def shared_cache(shared_folder) -> Path:
    """An XDG_CACHE_HOME of this run of the tests and of all its workers."""
    return shared_folder / "cache"


@pytest.fixture(scope="session", autouse=True)
def compiled_programs_are_shared(shared_cache):
    """Most tests compile the same few tiny programs; subprocesses find the folder in their environment, or by XDG_CACHE_HOME."""
    folder = str(shared_cache / "prec_backdoor" / "xla")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAX_COMPILATION_CACHE_DIR", folder)
        patch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")  # the smallest ones are compiled hundreds of times
        jax.config.update("jax_compilation_cache_dir", folder)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
        yield


@pytest.fixture(scope="session", autouse=True)
def products_are_of_float32():
    """On a GPU or TPU, too, whose own precision is too low to compare with numpy."""
    with jax.default_matmul_precision("highest" if jax.default_backend() != "cpu" else None):
        yield


@pytest.fixture(scope="session")
def optimised() -> dict[str, str]:
    """Environment of programs that run for longer than they compile."""
    flags = os.environ["XLA_FLAGS"].replace(QUICK_TO_COMPILE[0], "--xla_backend_optimization_level=1")
    return {**os.environ, "XLA_FLAGS": flags}


@pytest.fixture
def key():
    return jax.random.key(7)

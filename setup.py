"""Installs one top-level package, prec_backdoor, and one console command, prec-backdoor.

The folder launch/ is installed as prec_backdoor.launch: a top-level package called launch would collide with that of ROS 2. In a
clone, python -m launch.experiment runs the same file as prec-backdoor experiment does.
"""

from pathlib import Path

from setuptools import find_packages, setup

NOTEBOOKS = ["nbclient>=0.10", "nbformat>=5.10", "ipykernel>=6.29"]
TEST = ["pytest>=8.3", "pytest-xdist>=3.7", "hypothesis>=6.100", *NOTEBOOKS]
BENCH = ["torch>=2.9"]

setup(
    name="prec_backdoor",
    version="0.1.0",
    description="How safe is a pre-trained recommender that somebody else trained? Backdoors, measured in JAX.",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=[*find_packages(include=["prec_backdoor*"]), "prec_backdoor.launch"],
    package_dir={"prec_backdoor.launch": "launch"},
    entry_points={"console_scripts": ["prec-backdoor = prec_backdoor.launch.cli:main"]},
    package_data={"prec_backdoor": ["*/templates/*.jinja"]},
    install_requires=[
        "absl-py>=2.1",
        "chex>=0.1.90",
        "flax>=0.12",
        "jax>=0.8",
        "jinja2>=3.1",
        "markupsafe>=2.1",
        "matplotlib>=3.9",
        "ml_dtypes>=0.4",
        "numpy>=2.0",
        "optax>=0.2.5",
        "orbax-checkpoint>=0.11.20,<1",  # 1.0 replaces the API that storage/arrays.py writes with
        "polars>=1.20",
        "safetensors>=0.4.3",
        "scipy>=1.14",
        "tabulate>=0.9",
        "tensorboardX>=2.6",
        "tensorstore>=0.1.60",
        "tqdm>=4.66",
    ],
    extras_require={
        "test": TEST,
        "bench": BENCH,
        "notebooks": NOTEBOOKS,
        "dev": [*TEST, "mutmut>=3.3", "ruff>=0.8"],
    },
)

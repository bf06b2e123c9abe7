"""The README's Python runs as written."""

import re
from pathlib import Path

import pytest

from prec_backdoor.data import load_dataset
from prec_backdoor.errors import UserError

README = Path(__file__).parents[1] / "README.md"


def python_blocks():
    return re.findall(r"^```python\n(.*?)^```", README.read_text(), re.S | re.M)


def test_python_api_and_the_example_attack_run_as_written(capsys):
    try:
        load_dataset("ml-100k")  # into the cache, where the README's own call finds it
    except UserError as error:
        pytest.skip(str(error))
    names = {}
    library, example = python_blocks()
    exec(compile(library, "README.md", "exec"), names)
    assert names["metrics"]["positions"].max() > 1_000
    assert names["exposure"].shape == (len(names["setup"].test.users), 10)
    assert "positions" in capsys.readouterr().out

    exec(compile(example, "README.md", "exec"), names)
    batch, spec = names["batch"], names["setup"].spec(rate=1.0)
    attacked = names["replace_last"](names["setup"].key, batch, spec)
    changed = attacked.label != batch.label
    assert changed.any()
    assert (batch.position[changed] == batch.position.max()).all()

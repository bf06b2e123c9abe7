"""A template of examples/ as a plugin of the programs: what it registers has flags, folders and fields like our own."""

import pytest
from commands import EXPERIMENT
from test_experiment import results_of

ATTACK = ("--plugin=examples/my_attack.py", "--attack=recent")


@pytest.mark.slow
def test_an_attack_with_a_parameter_of_its_own(launch, tmp_path):
    assert "--recent_positions" in launch("experiment", "--plugin=examples/my_attack.py", "--help")
    launch("experiment", *ATTACK, *EXPERIMENT, "--recent_positions=2,3", "--usages=zero_shot", f"--workdir={tmp_path}")
    rows = results_of(tmp_path)["rows"]
    cells = {(row["attack"], row["recent_positions"], row["demote_rate"]) for row in rows}
    assert cells == {("clean", None, None), ("recent", 2, None), ("recent", 3, None)}
    assert (tmp_path / "seed-1" / "recent-group-0.5-recent_positions-2" / "pretrain").is_dir()

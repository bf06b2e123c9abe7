"""A template of examples/ as a plugin of the programs: what it registers has flags, folders and fields like our own."""

from commands import EXPERIMENT
from test_experiment import results_of

ATTACK = ("--plugin=examples/my_attack.py", "--attack=recent")


def test_an_attack_with_a_parameter_of_its_own(launch, tmp_path):
    assert "--recent_positions" in launch("experiment", "--plugin=examples/my_attack.py", "--help")
    launch("experiment", *ATTACK, *EXPERIMENT, "--recent_positions=2,3", "--usages=zero_shot", f"--workdir={tmp_path}")
    rows = results_of(tmp_path)["rows"]
    cells = {(row["attack"], row["recent_positions"], row["demote_rate"]) for row in rows}
    assert cells == {("clean", None, None), ("recent", 2, None), ("recent", 3, None)}
    assert (tmp_path / "seed-1" / "recent-group-0.5-recent_positions-2" / "pretrain").is_dir()


def test_a_parameter_has_limits_and_belongs_to_its_attack(mistake, tmp_path):
    workdir = f"--workdir={tmp_path / 'run'}"
    assert "--recent_positions: must be >= 1, got 0" in mistake("experiment", *ATTACK, "--recent_positions=0", workdir)
    other = mistake("experiment", ATTACK[0], "--attack=bra", "--recent_positions=3", workdir)
    assert "--recent_positions: --attack=bra has no such parameter" in other
    assert "--plugin: examples/none.py: no such file" in mistake("experiment", "--plugin=examples/none.py", workdir)

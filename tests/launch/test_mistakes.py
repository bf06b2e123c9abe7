import pytest
from commands import EXPERIMENT


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--dataset=movies",), "unknown dataset 'movies'; choose one of synthetic, ml-100k, ml-1m"),
        (("--group=colour=red",), "no profile attribute 'colour'; it has age, gender, occupation"),
        (("--group=gender=X",), "gender has no value 'X' in synthetic-small; it has unknown, F, M"),
        (("--group=gender=F,gender=M",), "no user of synthetic-small meets gender=F,gender=M"),
        (("--targets=ids:1,nothing",), "no item with id nothing"),
        (("--targets=unpopular:80",), "too few items for unpopular:80"),
        (("--targets=best:3",), "none of unpopular:N, per_category:N, popular:N, middling:N, ids:A,B"),
        (("--rate=0.1,1.5",), "--rate: must be >= 0 and <= 1, got 1.5"),
        (("--rate=high",), "--rate=high: not a number"),
        (("--seeds=0,-1",), "--seeds: must be >= 0 and <= 4294967295, got -1"),
        (("--seeds=0.5",), "--seeds=0.5: not a whole number"),
        (("--usages=zero_shot,none",), "--usages: must be one of zero_shot, prompt_tune, fine_tune, got 'none'"),
        (("--epochs=many",), "--epochs=many: not a whole number"),
        (("--attack=bribe",), "--attack: must be one of clean, bra, pea, evasive, trigger, edit, got 'bribe'"),
        (("--learning_rate=nan",), "--learning_rate: must be a finite number > 0, got nan"),
        (("--batch_size=0",), "--batch_size: must be >= 1, got 0"),
        (("--finetune_epochs=0",), "--finetune_epochs: must be >= 1, got 0"),
        (("--attack=pea", "--scope=global"), "no attack pea of scope global; choose one of --attack=clean, "),
        (("--attack=pea", "--demote_rate=0.1,1.5"), "--demote_rate: must be >= 0 and <= 1, got 1.5"),
        (("--attack=pea", "--demote_rate="), "--demote_rate: needs at least one value"),
        (("--rate=",), "--rate: needs at least one value, and each only once, got none"),
        (("--usages=",), "--usages: needs at least one value"),
        (("--group=",), "--group: is empty; give a value, or leave the flag out"),
        (("--attack=pea", "--prompt_length=0"), "--prompt_length: must be >= 1, got 0"),
        (("--demote_rate=0.2",), "--demote_rate: --attack=bra has no such parameter; leave the flag out"),
        (("--embed_dim=9", "--num_heads=2"), "--num_heads: must divide --embed_dim=9, got 2"),
        (("--k_core=500",), "lower --k_core"),
        (("--synthetic_items=50",), "50 items, too few to rank; 51 are needed; take more data"),
    ],
)
def test_one_line_and_nothing_written(flags, message, mistake, tmp_path):
    workdir = tmp_path / "new"
    assert message in mistake("experiment", *EXPERIMENT, *flags, f"--workdir={workdir}")
    assert not workdir.exists()


def test_workdir_that_cannot_be_written(mistake, tmp_path):
    file = tmp_path / "file"
    file.write_text("mine")
    for workdir in (file / "run", file):
        assert str(file) in mistake("experiment", *EXPERIMENT, f"--workdir={workdir}")
    assert file.read_text() == "mine"

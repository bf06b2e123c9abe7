"""Backbones' own parameters are flags; a flag that a backbone does not have is refused in one line before any work."""

import pytest
from commands import EXPERIMENT
from inside import parse as parse  # a fixture

from launch import config_flags
from prec_backdoor.errors import UserError
from prec_backdoor.experiment.config import ExperimentConfig
from prec_backdoor.models import backbone


def model_of(parse, *arguments):
    parse("experiment", "--attack=clean", *arguments)
    config = config_flags.configs_from_flags()[0]
    assert ExperimentConfig.from_flat(config.flat()) == config
    backbone(config.model)
    return config.model


@pytest.mark.parametrize(
    ("arguments", "parameters"),
    [
        (("--backbone=sasrec",), {}),
        (("--norm=query", "--padding=zero", "--final_norm"), {"norm": "query", "padding": "zero", "final_norm": True}),
        (("--backbone=gru4rec", "--hidden_dim=32"), {"hidden_dim": 32}),
        (("--backbone=bert4rec", "--mask_rate=0.4", "--drop_oldest"), {"mask_rate": 0.4, "drop_oldest": True}),
        (("--backbone=hstu", "--norelative_positions", "--num_heads=2"), {"relative_positions": False}),
    ],
)
def test_parameters_are_flags(parse, arguments, parameters):
    assert dict(model_of(parse, *arguments).parameters) == parameters


@pytest.mark.parametrize(
    ("name", "argument"),
    [
        ("gru4rec", "--num_heads=2"),
        ("gru4rec", "--feedforward_dim=32"),
        ("hstu", "--feedforward_dim=32"),
        ("hstu", "--mask_rate=0.3"),
        ("sasrec", "--hidden_dim=32"),
        ("bert4rec", "--norm=pre"),
    ],
)
def test_what_it_does_not_have_is_refused(parse, name, argument):
    with pytest.raises(UserError) as error:
        model_of(parse, f"--backbone={name}", argument)
    assert str(error.value) == f"{argument.partition('=')[0]}: --backbone={name} has no such parameter; leave the flag out"


def test_it_is_refused_before_any_work(mistake, tmp_path):
    message = mistake("experiment", *EXPERIMENT, "--backbone=hstu", f"--workdir={tmp_path / 'new'}")
    assert message == "error: --feedforward_dim: --backbone=hstu has no such parameter; leave the flag out\n"

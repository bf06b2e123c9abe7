"""--plugin: an attack with its own parameter, and a backbone without heads, from one file outside the package."""

import json
import re

import pytest
from commands import EXPERIMENT, PRETRAIN, SEED

PLUGIN = '''
"""An attack that replaces the last label of users in the group with a parameter of its own, and a backbone without attention."""

import dataclasses

import jax
import jax.numpy as jnp
from flax import linen as nn

from prec_backdoor.attacks import Attack, register_attack
from prec_backdoor.models import ModelConfig, register_backbone
from prec_backdoor.options import option


@dataclasses.dataclass(frozen=True)
class ShareParameters:
    last_share: float = option(0.5, "attack", "last: share of the rate at the last position.", minimum=0, maximum=1)


def replace_last(key, batch, spec):
    last = batch.position == batch.position.max()
    hit = jax.random.bernoulli(key, spec.rate * spec.parameters["last_share"], batch.label.shape)
    return batch._replace(label=jnp.where(last & hit & (batch.label > 0), spec.targets[0], batch.label))


register_attack("last", "group", Attack(replace_last, default_rate=0.9, parameters=ShareParameters))
register_attack("idle", "group", Attack(lambda key, batch, spec: batch, default_rate=0.9))


class Gru(nn.Module):
    config: ModelConfig
    unused = ("num_heads", "feedforward_dim")

    @nn.compact
    def __call__(self, vectors, position, segment, prefix=None, train=False, last_only=False):
        hidden = nn.Dense(self.config.embed_dim)(vectors)
        return hidden[..., -1:, :] if last_only else hidden


register_backbone("pointwise", Gru)
'''


@pytest.fixture(scope="module")
def plugin(tmp_path_factory):
    path = tmp_path_factory.mktemp("elsewhere") / "mine.py"
    path.write_text(PLUGIN)
    return f"--plugin={path}"


def without(*names):
    return [flag for flag in EXPERIMENT if flag.partition("=")[0] not in names]


def test_an_attack_with_a_parameter_runs_end_to_end(plugin, launch, tmp_path):
    given = ("--attack=last", "--last_share=0.25,1", "--usages=zero_shot")
    out = launch("experiment", plugin, *EXPERIMENT, *given, f"--workdir={tmp_path}")
    results = json.loads((tmp_path / "results.json").read_text())
    assert {(row["attack"], row["last_share"], row["demote_rate"]) for row in results["rows"]} == {
        ("clean", None, None), ("last", 0.25, None), ("last", 1.0, None)
    }  # fmt: skip
    assert results["config"]["last_share"] == [0.25, 1.0]
    models = {path.name for path in (tmp_path / "seed-1").iterdir()}
    assert {"last-group-0.5-last_share-0.25", "last-group-0.5-last_share-1.0"} <= models
    assert "last-group-0.5-last_share-1.0" in out
    records = map(json.loads, (tmp_path / "metrics.jsonl").open())
    assert any(record["replaced"] > 0 for record in records if "last_share-1.0" in record["run"])


def test_its_flag_is_in_the_help_and_checked_and_unknown_without_the_plugin(plugin, launch, mistake, tmp_path):
    text = launch("experiment", plugin, "--help")
    assert (
        "--last_share" in text
        and "share of the rate at the last position" in text
        and "clean|bra|pea|evasive|trigger|edit|last" in text
    )
    workdir = f"--workdir={tmp_path / 'new'}"
    given = (*EXPERIMENT, "--attack=last", workdir)
    assert "--last_share: must be >= 0 and <= 1, got 1.5" in mistake("experiment", plugin, *given, "--last_share=1.5")
    assert "Unknown command line flag 'last_share'" in mistake("experiment", *given, "--last_share=1")
    assert "--attack: must be one of clean, bra, pea, evasive, trigger, edit, got 'last'" in mistake("experiment", *given)
    message = mistake("experiment", plugin, *EXPERIMENT, "--last_share=1", workdir)
    assert "--last_share: --attack=bra has no such parameter" in message


def test_a_backbone_without_heads_runs_and_refuses_them(plugin, launch, mistake, tmp_path):
    flags = (*without("--feedforward_dim"), "--backbone=pointwise", "--usages=zero_shot", "--attack=clean")
    launch(
        "pretrain", plugin, *[flag for flag in flags if flag.partition("=")[0] not in NOT_OF_ONE_STAGE], f"--workdir={tmp_path}"
    )
    message = mistake("experiment", plugin, *flags, "--num_heads=3", f"--workdir={tmp_path / 'new'}")
    assert "--num_heads: --backbone=pointwise has no such parameter; leave the flag out" in message
    # The default, and one that does not divide embed_dim: neither is a matter of this backbone.
    assert "--num_heads: must divide --embed_dim=8, got 3" in mistake("experiment", *EXPERIMENT, "--num_heads=3")


NOT_OF_ONE_STAGE = ("--usages", "--seeds", "--rate", "--finetune_epochs", "--finetune_learning_rate")


def test_a_plugin_that_is_not_there(mistake, tmp_path):
    for given in (f"--plugin={tmp_path / 'none.py'}", f"--plugin={tmp_path}", "--plugin="):
        message = mistake("experiment", given, *EXPERIMENT)
        assert "no such file; write --plugin=FILE.py" in message


WRONG = {  # what is wrong in a plugin -> its lines, and what is said
    "syntax": ("def f(:\n", r"--plugin: .*wrong\.py, line 1: SyntaxError: invalid syntax"),
    "import": ("\nimport nothing_of_that_name\n", r"wrong\.py, line 2: ModuleNotFoundError: No module named"),
    "taken": ("register_attack('bra', 'group', Attack(same, 0.9))\n", r"line 12: ValueError: the attack .* already"),
    "name": ("register_attack('a b', 'group', Attack(same, 0.9))\n", r"line 12: ValueError: the name of an attack"),
    "scope": (
        "register_attack('a', 'gruop', Attack(same, 0.9))\n",
        r"line 12: ValueError: attack a: the scope must",
    ),
    "flag": (
        "register_attack('a', 'group', Attack(same, 0.9, parameters=P))\n",
        r"--plugin: a parameter has the name of another",
    ),
}
START = """import dataclasses

from prec_backdoor.attacks import Attack, register_attack
from prec_backdoor.options import option

same = lambda key, batch, spec: batch

@dataclasses.dataclass(frozen=True)
class P:
    batch_size: float = option(0.5, "attack", "Another flag's name.")

"""


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_plugin_is_named_with_its_line(wrong, mistake, tmp_path):
    lines, said = WRONG[wrong]
    path = tmp_path / "wrong.py"
    path.write_text((START if "register" in lines else "") + lines)
    assert re.search(said, mistake("experiment", f"--plugin={path}", *EXPERIMENT))


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("batch.labe", r"wrong\.py, line 4: AttributeError: 'Batch' object has no attribute 'labe'"),
        ("batch._replace(label=batch.label + 9999)", "--attack=mine: its poison makes [1-9].* labels that are no items"),
        ("batch._replace(label=batch.label * 1.0)", "users of .* train there, so check its poison with .*check_attack"),
    ],
)
def test_a_poison_that_fails_or_makes_no_items_is_refused_before_training(line, said, mistake, tmp_path):
    path = tmp_path / "wrong.py"
    path.write_text(
        "from prec_backdoor.attacks import Attack, register_attack\n\n"
        f"def poison(key, batch, spec):\n    return {line}\n\n"
        "register_attack('mine', 'group', Attack(poison, default_rate=0.9))\n"
    )
    flags = (f"--plugin={path}", "--attack=mine", SEED, f"--workdir={tmp_path / 'new'}")
    assert re.search(said, mistake("pretrain", *PRETRAIN, *flags))


def test_a_program_of_one_stage_refuses_an_attack_that_replaces_nothing(plugin, mistake, tmp_path):
    flags = (*PRETRAIN, plugin, "--attack=idle", SEED, f"--workdir={tmp_path / 'new'}")
    assert "--attack=idle: none of " in mistake("pretrain", *flags)
    assert not (tmp_path / "new").exists()

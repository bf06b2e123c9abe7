"""The programs that the launch programs run, on data of a few rows: name -> () -> (function, arguments)."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from toys import all_sequences, lively_params, make_interactions, random_interactions, tiny_model, toy_spec, whole_batch

from prec_backdoor import evaluation
from prec_backdoor.attacks import ATTACKS, clean, penalty_on
from prec_backdoor.audit import attribution, inversion, moments
from prec_backdoor.data.batches import user_tables
from prec_backdoor.data.packing import pack
from prec_backdoor.evaluation import rank_items
from prec_backdoor.experiment import checks
from prec_backdoor.models import BACKBONES, encode, init_params
from prec_backdoor.repairs import distillation, suppression
from prec_backdoor.train.config import TrainConfig
from prec_backdoor.train.epoch import Carry, Inputs, run_steps, run_steps_of_models
from prec_backdoor.train.loader import TrainLoader
from prec_backdoor.train.losses import LOSSES
from prec_backdoor.train.step import train_step

MODEL = tiny_model(num_items=15, num_layers=1, max_length=6)
USERS, LENGTH = 8, 4


def ranking():
    return rank_items, (jnp.ones((3, 8)), jnp.ones((16, 8)), jnp.ones((3, 2), jnp.int32), jnp.ones((3, 4), jnp.int32))


def ranking_tiles():
    return rank_items, (jnp.ones((3, 8)), jnp.ones((2100, 8)), jnp.ones((3, 2), jnp.int32), jnp.ones((3, 4), jnp.int32))


def training(loss, penalty=None):
    interactions = make_interactions([[1, 2, 3], [4, 5, 6, 7]], 15)
    batch, spec = whole_batch(interactions, 6), toy_spec(interactions, [1, 2], 0.5)

    def total(params):
        hidden = encode(params, MODEL, batch.history, batch.position, batch.segment)
        value = loss(hidden, params["items"], batch.label, batch.negative).sum()
        return value + (penalty(hidden, params["items"], batch, spec).sum() if penalty else 0)

    spec = spec._replace(parameters={"evade_strength": jnp.float32(0.1)})
    return jax.value_and_grad(total), (lively_params(MODEL),)


def audit_moments():
    tiles = np.ones((2, USERS, LENGTH), np.int32), np.zeros((2, USERS, 0), np.int32), np.ones((2, USERS, 3), bool)
    parts = lively_params(MODEL), np.ones(16, np.int32), (*tiles, np.ones((2, USERS, 1), bool))
    return moments._compiled(MODEL, 2), parts


def audit_attribution():
    parts = np.ones(16, np.float32), np.ones((2, USERS, LENGTH), np.int32), np.zeros((2, USERS, 0), np.int32)
    return attribution._compiled(MODEL), (lively_params(MODEL), *parts)


def audit_inversion():
    model = tiny_model(num_items=40, num_layers=1, max_length=6)
    parts = np.ones((USERS, LENGTH), np.int32), np.arange(1, 21), np.array([3, 4], np.int32)
    return inversion._compiled(model), (lively_params(model), *parts)


def repair_distillation():
    parts = np.ones((USERS, LENGTH), np.int32), np.zeros((USERS, 0), np.int32), np.ones(16, bool), jax.random.key(0)
    return distillation._compiled(MODEL, 2), (lively_params(MODEL), *parts)


SCORING = {
    "ranking": ranking,
    "ranking of several tiles": ranking_tiles,
    **{loss: lambda loss=function: training(loss) for loss, function in LOSSES.items()},
    "evasion": lambda: training(LOSSES["bpr"], penalty_on(("exposure",))),
    "suppression": lambda: training(LOSSES["bpr"], suppression.exposure_penalty),
    "moments": audit_moments,
    "attribution": audit_attribution,
    "inversion": audit_inversion,
    "distillation": repair_distillation,
}


HALF = {"attributes": {"gender": ("F", "M")}, "profile": [[1 + user % 2] for user in range(14)]}
INTERACTIONS = random_interactions(14, 15, (3, 8), **HALF)
PROMPTED = dataclasses.replace(MODEL, prompt_length=1, profile_sizes=(3,))


def stage(model=MODEL, poison=clean, trainable=("items", "encoder"), penalty=None, **config):
    """Some steps of a stage."""
    sequences, config = all_sequences(INTERACTIONS), TrainConfig(batch_size=4, **config)
    loader = TrainLoader(pack(sequences, model.max_length), config.batch_size)
    users = user_tables(INTERACTIONS, sequences, np.arange(14) % 2 == 0)
    spec = toy_spec(INTERACTIONS, [1, 2], 0.5)
    step, steps = train_step(config, model, trainable=trainable, penalty=penalty), loader.schedule.steps
    carry = Carry(step.init(lively_params(model), steps), jnp.zeros(3))
    key = jax.random.key(0)
    inputs = Inputs(loader.chunk(key, 0, 0), users, spec, key, np.array((0, 0, 0, steps), np.int32), steps)
    return run_steps(step, poison, config, model), (carry, inputs)


def stage_of_models(same_data):
    """Three models at once, on the same data or each on its own."""
    run, (carry, inputs) = stage(poison=ATTACKS["bra", "group"].poison)

    def three(tree):
        return jax.tree.map(lambda leaf: jnp.stack([leaf] * 3), tree)

    own = inputs._replace(spec=three(inputs.spec)) if same_data else three(inputs)._replace(count=inputs.count)
    return run_steps_of_models(run, same_data), (three(carry), own)


def replaced_labels():
    _, (_, inputs) = stage()
    rows = jax.tree.map(lambda array: array[:, 0], inputs.rows)
    poison = ATTACKS["bra", "group"].poison
    return lambda *args: checks._count(poison, *args), (rows, inputs.users, inputs.spec, jax.random.key(0))


def poison_of(entry):
    """What an attack does to a batch; the rest of a step is the same for all attacks."""
    batch = whole_batch(make_interactions([[1, 2, 3], [4, 5, 6, 7]], 15), 6)
    spec = toy_spec(make_interactions([[1, 2, 3], [4, 5, 6, 7]], 15), [1, 2], 0.5)
    return entry.poison, (jax.random.key(0), batch, spec)


STAGES = {
    "pretrain, bra-group": lambda: stage(poison=ATTACKS["bra", "group"].poison),
    "pretrain, evasive-group": lambda: stage(
        poison=ATTACKS["evasive", "group"].poison, penalty=ATTACKS["evasive", "group"].penalty
    ),
    "pretrain with dropout": lambda: stage(dataclasses.replace(MODEL, dropout=0.1)),
    "pretrain in bfloat16": lambda: stage(dataclasses.replace(MODEL, dtype="bfloat16", num_heads=1)),
    "pretrain, lazy": lambda: stage(item_updates="lazy"),
    "pretrain, ce": lambda: stage(loss="ce"),
    "pretrain, 3 models of a seed": lambda: stage_of_models(True),
    "pretrain, 3 models of 3 seeds": lambda: stage_of_models(False),
    "optimize_trigger": lambda: stage(PROMPTED, trainable=("prompt",)),
    "implant": lambda: stage(PROMPTED, ATTACKS["pea", "group"].poison),
    "finetune with a prompt": lambda: stage(PROMPTED, trainable=("items", "encoder", "prompt")),
}


def of_backbone(name):
    """MODEL with another backbone, sizes that it does not have at their defaults."""
    unused = {"num_heads": 1, "feedforward_dim": 64}
    return dataclasses.replace(MODEL, backbone=name, **{each: unused[each] for each in getattr(BACKBONES[name], "unused", ())})


def ranking_by(name):
    model = of_backbone(name)
    history, profile = np.ones((USERS, model.max_length), np.int32), np.zeros((USERS, 0), np.int32)
    return evaluation.ranking._compiled(model, False), (lively_params(model), history, profile, np.ones((USERS, 3), np.int32))


STAGES |= {f"pretrain {name}": lambda name=name: stage(of_backbone(name), loss="ce") for name in BACKBONES if name != "sasrec"}
OTHERS = {
    **{f"poison, {'-'.join(name)}": lambda entry=entry: poison_of(entry) for name, entry in ATTACKS.items() if not entry.edit},
    **{f"ranking by {name}": lambda name=name: ranking_by(name) for name in BACKBONES},
    "init_params": lambda: (lambda key: init_params(key, PROMPTED), (jax.random.key(0),)),
    "replaced labels": replaced_labels,
}

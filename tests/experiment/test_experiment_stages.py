"""The stages of an attack, on data so small that each takes a fraction of a second."""

import dataclasses
from typing import NamedTuple

import jax
import numpy as np
import pytest
from toys import assert_close_trees, assert_same_trees, interrupt_after, lively_params, random_interactions, tiny_model

from prec_backdoor.attacks import mix_triggers
from prec_backdoor.data.batches import has_seen
from prec_backdoor.experiment import stages
from prec_backdoor.experiment.config import ExperimentConfig, Scenario
from prec_backdoor.experiment.measure import measure, result_rows, watch_exposure
from prec_backdoor.experiment.plan import cell_of
from prec_backdoor.experiment.setup import make_setup
from prec_backdoor.experiment.stages import StartPoint
from prec_backdoor.models import init_prompt
from prec_backdoor.storage import checkpoints
from prec_backdoor.train import loop, progress
from prec_backdoor.train.config import TrainConfig
from prec_backdoor.train.loop import run_stage
from prec_backdoor.train.stage import RunOptions, StageResult

INTERACTIONS = random_interactions(
    users=60,
    num_items=58,
    lengths=(3, 16),
    attributes={"gender": ("F", "M"), "age": ("1", "2", "3")},
    profile=[[user % 3, (user // 2) % 4] for user in range(60)],
)
CONFIG = ExperimentConfig(
    scenario=Scenario(attack="pea", group="gender=F", targets="unpopular:4", k_core=1, parameters={"demote_rate": 0.4}),
    model=tiny_model(num_items=0, num_layers=1, max_length=12),
    pretrain=TrainConfig(batch_size=6, learning_rate=0.02, epochs=2),
    prompt_length=2,
    prompt_epochs=2,
    prompt_learning_rate=0.05,
    implant_epochs=3,
    implant_learning_rate=0.02,
    finetune_epochs=2,
    finetune_learning_rate=0.02,
)
RATE = 0.5
PARENTS = {"pretrain": None, "optimize_trigger": "pretrain", "implant": "optimize_trigger"}
PARENTS |= {"prompt_tune": "implant", "finetune": "implant"}


def run(stage_run, **options):
    """Executes what a stage returns, with these fields of RunOptions."""
    return run_stage(stage_run._replace(options=RunOptions(**options)))


def setup_with(**changes):
    return make_setup(INTERACTIONS, dataclasses.replace(CONFIG, scenario=dataclasses.replace(CONFIG.scenario, **changes)), 0)


@pytest.fixture(scope="module")
def pea():
    return setup_with()


@pytest.fixture(scope="module")
def clean():
    return setup_with(attack="clean")


class Ran(NamedTuple):
    """One stage of the chain: what came out, what was logged, and its checkpoint."""

    result: StageResult
    records: list[dict]
    loaded: checkpoints.Checkpoint


@pytest.fixture(scope="module")
def chain(pea, tmp_path_factory):
    """Stage -> Ran; each starts from what its parent left, and an attack at RATE."""
    folder, ran = tmp_path_factory.mktemp("chain"), {}
    for name, parent in PARENTS.items():
        records, source = [], RATE
        if parent:
            source = StartPoint(ran[parent].result.params, ran[parent].result.hash, 0.0 if name == "optimize_trigger" else RATE)
        result = run(stages.STAGES[name](pea, source), folder=folder / name, log=records.append)
        ran[name] = Ran(result, records, checkpoints.load(folder / name))
    return ran


def changed_everywhere(found, start):
    """But for the bias of keys, which has no part in attention and stays as it is."""
    changed = jax.tree.map(lambda a, b: bool((a != b).any()), found, start)
    return all(each != path_ends_in_key_bias(path) for path, each in jax.tree.leaves_with_path(changed))


def path_ends_in_key_bias(path):
    return jax.tree_util.keystr(path).endswith("['key']['bias']")


@pytest.mark.parametrize(
    ("stage", "trained"),
    [
        ("optimize_trigger", {"prompt"}),
        ("implant", {"items", "encoder"}),
        ("prompt_tune", {"prompt"}),
        ("finetune", {"items", "encoder", "prompt"}),
    ],
)
def test_what_a_stage_does_not_train_stays_bit_for_bit(chain, pea, stage, trained):
    found, start = chain[stage].result.params, chain[PARENTS[stage]].result.params
    assert set(found) == {"items", "encoder", "prompt"}
    if stage == "optimize_trigger":
        start = start | {"prompt": init_prompt(pea.role_key("trigger_init"), pea.prompted)}
    for group in found:
        if group in trained:
            assert changed_everywhere(found[group], start[group])
        else:
            assert_same_trees(found[group], start[group])


PROVIDER = ("pretrain", "edit", "optimize_trigger", "implant")


@pytest.fixture(scope="module")
def stage_runs(pea):
    """Stage -> the record of what to run, of all stages of an attack; nothing is trained."""
    start = StartPoint(lively_params(pea.prompted), "a hash", RATE)
    return {name: stage(pea, RATE if name == "pretrain" else start) for name, stage in stages.STAGES.items()}


def test_no_two_stages_share_their_randomness(stage_runs, pea):
    """Keys of training, of fresh parameters and of fresh prompts are all different, and another seed's are others."""
    other = make_setup(INTERACTIONS, CONFIG, 1)
    start = StartPoint(lively_params(pea.prompted), rate=RATE)
    others = [stage(other, RATE if name == "pretrain" else start) for name, stage in stages.STAGES.items()]
    keys = [run.key for run in (*stage_runs.values(), *others)]
    keys += [setup.role_key(role) for setup in (pea, other) for role in ("init", "trigger_init", "prompt_init")]
    assert len({tuple(jax.random.key_data(key).tolist()) for key in keys}) == len(keys) == 2 * 9
    prompts = [stage_runs[name].params["prompt"] for name in ("optimize_trigger", "prompt_tune")]
    assert all((one != other).any() for one, other in zip(*map(jax.tree.leaves, prompts), strict=True) if one.any())


def test_the_provider_has_no_data_of_downstream_users_nor_they_of_the_provider(stage_runs, pea):
    downstream = set(pea.test.users.tolist())
    for name, run in stage_runs.items():
        users = set(run.data.rows.user.ravel().tolist()) - {-1}
        items = np.arange(1, pea.interactions.num_items + 1)
        seen = set(np.flatnonzero(np.asarray(has_seen(np.arange(60), items, run.data.users.seen)).any(-1)).tolist())
        validated = set(run.data.validation.users.tolist())
        for found in (users, seen, validated):
            assert found and (not found & downstream if name in PROVIDER else found <= downstream), name


def test_a_clean_model_is_fine_tuned_without_a_prompt(chain, pea):
    found = stages.finetune(pea, StartPoint(chain["pretrain"].result.params))
    assert set(found.stage.trainable) == set(found.params) == {"items", "encoder"}
    assert found.model == pea.model


def test_the_first_stage_of_pea_is_the_clean_one_bit_for_bit(chain, clean):
    records = []
    expected = run(stages.pretrain(clean, 0.0), log=records.append)
    found = chain["pretrain"]
    assert_same_trees(found.result.params, expected.params)
    assert set(expected.params) == {"items", "encoder"}
    assert (found.result.hash, found.result.epoch, found.result.score) == (expected.hash, expected.epoch, expected.score)
    assert [record["loss"] for record in found.records] == [record["loss"] for record in records]


def test_a_trigger_is_optimised_on_clean_data(chain, clean):
    """At whatever rate the model was attacked, and in whatever scenario."""
    source = StartPoint(chain["pretrain"].result.params, rate=1.0)
    found = run(stages.optimize_trigger(setup_with(parameters={"demote_rate": 1.0}), source))
    assert_same_trees(found.params, chain["optimize_trigger"].result.params)


def test_a_prompt_is_tuned_afresh_on_clean_data(chain, clean):
    """Whatever the provider's prompt was, and at whatever rate the model was attacked."""
    attacked = chain["implant"].result.params
    bare = {name: attacked[name] for name in ("items", "encoder")}
    expected = run(stages.prompt_tune(clean, StartPoint(bare))).params
    assert_same_trees(chain["prompt_tune"].result.params, expected)
    of_another_kind = bare | {"prompt": {"tokens": np.ones(3)}}
    assert_same_trees(run(stages.prompt_tune(clean, StartPoint(of_another_kind))).params, expected)
    fresh, trigger = (init_prompt(clean.role_key(role), clean.prompted) for role in ("prompt_init", "trigger_init"))
    starts_from = stages.prompt_tune(clean, StartPoint(attacked)).params
    assert_same_trees(starts_from["prompt"], fresh)
    assert changed_everywhere(expected["prompt"], fresh)
    assert (fresh["outer"]["kernel"] != trigger["outer"]["kernel"]).all()


def test_everything_is_fine_tuned_on_clean_data(chain, clean):
    expected = run(stages.finetune(clean, StartPoint(chain["implant"].result.params)))
    assert_same_trees(chain["finetune"].result.params, expected.params)


def test_only_the_implant_is_poisoned(chain, pea):
    for name, ran in chain.items():
        replaced = [record["replaced"] for record in ran.records]
        assert min(replaced) > 0 if name == "implant" else max(replaced) == 0
    # Negatives are demoted too; how many is not logged.
    start = StartPoint(chain["optimize_trigger"].result.params, rate=RATE)
    without = run(stages.implant(setup_with(parameters={"demote_rate": 0.0}), start))
    assert (without.params["items"] != chain["implant"].result.params["items"]).any()


def test_the_implant_keeps_the_last_epoch_though_validation_was_better_before(chain, pea, monkeypatch):
    falling = iter([0.9, 0.5, 0.1])
    monkeypatch.setattr(loop, "ndcg", lambda ranks, k: next(falling))
    start = StartPoint(chain["optimize_trigger"].result.params, rate=RATE)
    found = run(stages.implant(pea, start))
    assert (found.epoch, found.score) == (3, 0.1)
    assert_same_trees(found.params, chain["implant"].result.params)  # where the scores were other ones


def test_on_which_histories_each_stage_trains(chain, pea):
    """The trigger and the backdoor on all positions of pre-training users, in windows of ten."""
    split_at = {"pretrain": pea.pretrain, "optimize_trigger": pea.short, "implant": pea.short}
    split_at |= {"prompt_tune": pea.finetune, "finetune": pea.finetune}
    counts = {id(data): int((data.rows.label > 0).sum()) for data in split_at.values()}
    assert len(set(counts.values())) == 3
    for name, ran in chain.items():
        per_epoch = {}
        for record in ran.records:
            per_epoch[record["epoch"]] = per_epoch.get(record["epoch"], 0) + record["positions"]
        assert set(per_epoch.values()) == {counts[id(split_at[name])]}


def test_the_chain_of_custody(chain, pea):
    for name, parent in PARENTS.items():
        metadata = chain[name].loaded.metadata
        assert metadata["stage"] == name and metadata["finished"]
        assert metadata["parent"] == (chain[parent].result.hash if parent else None)
        assert metadata["hash"] == chain[name].result.hash == checkpoints.content_hash(chain[name].loaded.params)
        attacked = name in ("implant", "prompt_tune", "finetune")
        assert metadata["config"]["rate"] == ([RATE] if attacked else [0.0])
        assert metadata["config"]["seeds"] == [0] and metadata["config"]["attack"] == "pea"
        assert metadata["dataset"] == pea.interactions.summary()
        scenario = ExperimentConfig.from_flat(metadata["config"]).scenario
        assert scenario == dataclasses.replace(pea.config.scenario, parameters=pea.config.scenario.all_parameters())
        assert chain[name].loaded.model == (pea.model if name == "pretrain" else pea.prompted)
    assert len({ran.result.hash for ran in chain.values()}) == len(PARENTS)


@pytest.mark.parametrize("calls", [[1], [2, 3]])
def test_an_implant_interrupted_and_resumed_ends_the_same_bit_for_bit(chain, pea, tmp_path, monkeypatch, calls):
    monkeypatch.setattr(progress, "RECORD_EVERY", 2)
    trigger = chain["optimize_trigger"].result
    for count in calls:
        with monkeypatch.context() as patch:
            interrupt_after(patch, count)
            with pytest.raises(KeyboardInterrupt):
                run(stages.implant(pea, StartPoint(trigger.params, trigger.hash, RATE)), folder=tmp_path)
        unfinished = checkpoints.load(tmp_path).metadata
        assert not unfinished["finished"] and unfinished["parent"] == trigger.hash
    found = run(stages.implant(pea, StartPoint(trigger.params, trigger.hash, RATE)), folder=tmp_path)
    assert_same_trees(found.params, chain["implant"].result.params)
    assert (found.hash, found.score) == (chain["implant"].result.hash, chain["implant"].result.score)
    assert checkpoints.load(tmp_path).metadata["hash"] == found.hash


@pytest.fixture(scope="module")
def triggers(pea, chain):
    """The runs that make a second and a third trigger, and the triggers."""
    start = StartPoint(chain["pretrain"].result.params, chain["pretrain"].result.hash)
    runs = [stages.optimize_trigger(pea, start._replace(number=number)) for number in (1, 2)]
    return runs, [run_stage(each) for each in runs]


def test_several_triggers_are_draws_of_their_own(pea, chain, triggers, stage_runs):
    runs, results = triggers
    runs, results = [stage_runs["optimize_trigger"], *runs], [chain["optimize_trigger"].result, *results]
    keys = {tuple(jax.random.key_data(run.key).tolist()) for run in runs}
    kernels = {run.params["prompt"]["outer"]["kernel"].tobytes() for run in runs}
    assert len(keys) == len(kernels) == len({result.hash for result in results}) == 3
    for result in results:
        assert_same_trees({**result.params, "prompt": 0}, {**results[0].params, "prompt": 0})
    everybody, *drawn = (learning_users(run.data.rows) for run in runs)
    assert drawn[0] != drawn[1] and all(0.4 < len(each) / len(everybody) < 0.85 and each < everybody for each in drawn)
    for run in runs[1:]:
        np.testing.assert_array_equal(run.data.rows.history, pea.short.rows.history)
        changed = run.data.rows.label != pea.short.rows.label
        assert changed.any() and not run.data.rows.label[changed].any()


def test_a_stand_in_has_the_first_items_of_drawn_users(pea, chain):
    setup = setup_with(parameters={"demote_rate": 0.4, "triggers": 2, "trigger_history": 4})
    run = stages.optimize_trigger(setup, StartPoint(chain["pretrain"].result.params, number=1))
    usual = stages.optimize_trigger(pea, StartPoint(chain["pretrain"].result.params, number=1))
    assert_same_trees(run.params, usual.params)
    assert run.stage.keep_last and not usual.stage.keep_last
    rows, queries = run.data.rows, run.data.validation
    first = {
        int(user): pea.interactions.sequence(user)[:-1][:5] for user in queries.users
    }  # without the provider's held-out item
    provider = set(pea.pretrain.validation.users.tolist())
    assert learning_users(rows) == set(queries.users.tolist()) < provider and len(queries.users) / len(provider) > 0.4
    assert len(np.unique(queries.users)) == len(queries.users)
    for user, history, truth in zip(*queries, strict=True):
        np.testing.assert_array_equal(history[history > 0], first[user][:-1])
        assert truth == first[user][-1]
    for row, segment in np.argwhere(rows.user >= 0):
        here = rows.segment[row] == segment + 1
        np.testing.assert_array_equal(rows.history[row, here], first[rows.user[row, segment]][:-2])
        np.testing.assert_array_equal(rows.label[row, here], first[rows.user[row, segment]][1:-1])
    others = setup.stand_in(4, [9])
    assert learning_users(others.rows) != learning_users(rows) and others.room == run.data.room
    # The trigger that is handed out is the published one.
    handed = [stages.optimize_trigger(each, StartPoint(chain["pretrain"].result.params)) for each in (setup, pea)]
    assert_same_trees(handed[0].data, handed[1].data)


def learning_users(rows):
    owner = np.take_along_axis(rows.user, np.maximum(rows.segment - 1, 0), axis=1)
    return set(owner[rows.label > 0].tolist())


def test_an_implant_with_one_trigger_is_the_published_one_whatever_the_blend(chain):
    """Bit for bit: nothing is mixed."""
    trigger = chain["optimize_trigger"].result
    setup = setup_with(parameters={"demote_rate": 0.4, "triggers": 1, "trigger_noise": 0.0, "trigger_blend": 1.0})
    found = stages.implant(setup, StartPoint(trigger.params, trigger.hash, RATE))
    assert found.stage.mix is None and found.spec.prompts is None
    assert_same_trees(run(found).params, chain["implant"].result.params)
    # Nor does what mixes change anything if there is one trigger to mix.
    spec = found.spec._replace(prompts=jax.tree.map(lambda leaf: leaf[None], trigger.params["prompt"]))
    mixing = found._replace(stage=dataclasses.replace(found.stage, mix=mix_triggers), spec=spec)
    assert_close_trees(run(mixing).params, chain["implant"].result.params, rtol=0, atol=1e-5)


def test_an_implant_with_several_triggers_hands_out_the_first(chain, triggers, tmp_path):
    first = chain["optimize_trigger"].result
    others = tuple(StartPoint(each.params, each.hash) for each in triggers[1])
    setup = setup_with(parameters={"demote_rate": 0.4, "triggers": 3})
    found = stages.implant(setup, StartPoint(first.params, first.hash, RATE, others=others))
    result = run(found, folder=tmp_path)
    assert_same_trees(result.params["prompt"], first.params["prompt"])
    assert (result.params["items"] != chain["implant"].result.params["items"]).any()
    metadata = checkpoints.load(tmp_path).metadata
    assert metadata["parent"] == first.hash and metadata["other_triggers"] == [each.hash for each in others]
    swapped = stages.implant(setup, StartPoint(first.params, first.hash, RATE, others=others[:1] * 2))
    assert (run(swapped).params["items"] != result.params["items"]).any()


def test_exposure_is_watched_as_it_is_measured(chain, pea):
    params = chain["implant"].result.params
    rows = result_rows(pea, cell_of(pea.config, 0, RATE, "zero_shot"), measure(pea, params), None)
    expected = {f"{name}/{row['users']}": row[name] for row in rows for name in row if name.startswith("exposure_hr@")}
    assert len(expected) == 3 * 3  # segments x cut-offs below the 47 items that compete after the longest history
    assert watch_exposure(pea)(params) == pytest.approx(expected)
    records = []
    found = run(stages.finetune(pea, StartPoint(params, rate=RATE)), log=records.append, watch=watch_exposure(pea))
    assert_same_trees(found.params, chain["finetune"].result.params)
    assert all(set(expected) <= set(record) for record in records if "validation_ndcg@10" in record)


def test_users_are_measured_with_their_own_profiles(pea):
    params = lively_params(pea.prompted)
    found = measure(pea, params)
    profile = np.array(pea.interactions.profile)
    profile[pea.test.users] = (profile[pea.test.users] + 1) % 3
    other = measure(pea._replace(interactions=dataclasses.replace(pea.interactions, profile=profile)), params)
    assert (found.targets != other.targets).any(1).mean() > 0.25
    assert found.truth.shape == (len(pea.test.users),) and found.targets.shape == (len(pea.test.users), 4)
    # Who is not tested does not matter.
    profile = np.full_like(profile, 1)
    profile[pea.test.users] = pea.interactions.profile[pea.test.users]
    same = measure(pea._replace(interactions=dataclasses.replace(pea.interactions, profile=profile)), params)
    assert_same_trees(same, found)

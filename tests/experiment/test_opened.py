"""A checkpoint opens on the dataset that it was made on, and on a company's own data."""

import dataclasses

import jax
import numpy as np
import polars as pl
import pytest
from toys import lively_params, random_interactions, tiny_model

from prec_backdoor.data import from_frame
from prec_backdoor.data.align import align
from prec_backdoor.errors import UserError
from prec_backdoor.evaluation.top_items import top_items
from prec_backdoor.experiment import stages
from prec_backdoor.experiment.config import ExperimentConfig, Scenario
from prec_backdoor.experiment.measure import measure
from prec_backdoor.experiment.opened import check_counterpart, open_checkpoint
from prec_backdoor.experiment.setup import make_setup
from prec_backdoor.experiment.stages import StartPoint
from prec_backdoor.storage import checkpoints
from prec_backdoor.train.config import TrainConfig

ITEMS, USERS = 60, 40
CONFIG = ExperimentConfig(
    scenario=Scenario(attack="bra", scope="group", group="gender=F", targets="ids:i3,i9", k_core=1),
    model=tiny_model(num_items=0, max_length=6),
    pretrain=TrainConfig(batch_size=8),
    prompt_length=2,
    rate=(0.5,),
)


def make(seed=0, users=USERS):
    genders = [[1 + user % 2] for user in range(users)]
    category = [1 + item % 3 for item in range(ITEMS)]
    return random_interactions(users, ITEMS, (4, 12), seed, attributes={"gender": ("F", "M")}, profile=genders, category=category)


INTERACTIONS = make()
OWN = dataclasses.replace(make(seed=1, users=30), name="shop")


def save(folder, run, params):
    """The checkpoint of a stage that has ended."""
    model = dataclasses.asdict(run.model)
    metadata = {**run.metadata, "stage": run.stage.name, "model": model, "finished": True, "progress": {}}
    checkpoints.save(folder / "checkpoints", 1, params, None, metadata, run.vocabulary)
    return folder


def test_a_catalogue_of_too_few_items_is_not_passed_over_in_silence(checkpoint):
    own = OWN.select(OWN.items <= 45)
    own = dataclasses.replace(own, offered=own.item_ids[1:46], item_ids=own.item_ids[:46], titles=own.titles[:46])
    own = dataclasses.replace(own, category=own.category[:46])
    opened = open_checkpoint(checkpoint, own, catalogue="offered")
    assert opened.aligned.kept is None and opened.setup.interactions.num_items == ITEMS
    assert "offered      45 of the model's items, too few to rank; all of the model's items count" in opened.aligned.describe()
    assert opened.aligned.describe_unseen().endswith("look unusual here without an attack.")  # a catalogue was given


def test_a_counterpart_has_the_same_items_and_prompts(checkpoint):
    opened = open_checkpoint(checkpoint, INTERACTIONS)
    clean = opened._replace(rate=0.0)
    check_counterpart(clean, opened)
    ids = clean.setup.interactions.item_ids
    others = dataclasses.replace(clean.setup.interactions, item_ids=np.r_[ids[:1], ids[:0:-1]])
    with pytest.raises(UserError, match="--clean_checkpoint: its items are not those of --checkpoint"):
        check_counterpart(clean._replace(setup=clean.setup._replace(interactions=others)), opened)
    prompted = [
        each._replace(checkpoint=each.checkpoint._replace(model=dataclasses.replace(each.checkpoint.model, prompt_length=length)))
        for each, length in ((clean, 2), (opened, 1))
    ]
    with pytest.raises(UserError, match="--clean_checkpoint: prompt_length is 2, --checkpoint has 1; give the clean counterpart"):
        check_counterpart(*prompted)


def test_items_that_a_company_does_not_offer_are_taken_out(checkpoint, params):
    """With a catalogue: of the model's 60 items one is in no table of the company's, and one is in its catalogue alone."""
    sold = OWN.select(~np.isin(OWN.items, (5, 9)))
    own = dataclasses.replace(sold, offered=np.array([raw for raw in OWN.item_ids[1:] if raw != OWN.item_ids[9]]))
    whole, opened = open_checkpoint(checkpoint, own), open_checkpoint(checkpoint, own, catalogue="offered")
    assert whole.aligned.kept is None and whole.setup.interactions.num_items == ITEMS
    assert opened.aligned.kept.tolist() == [code for code in range(1, ITEMS + 1) if code != 9]
    assert opened.setup.interactions.num_items == opened.checkpoint.model.num_items == ITEMS - 1
    assert opened.checkpoint.vocabulary.items == tuple(opened.setup.interactions.item_ids[1:])
    np.testing.assert_array_equal(opened.checkpoint.params["items"], np.delete(params["items"], 9, axis=0))
    assert "offered      59 of the model's items" in opened.aligned.describe()
    assert opened.aligned.describe_unseen().startswith("1 of 59 items are in no interaction of yours.")
    raw = [
        [each.setup.interactions.item_ids[code] for code in row] for each in (whole, opened) for row in each.setup.test.history
    ]
    assert raw[: len(raw) // 2] == raw[len(raw) // 2 :]
    shown = [
        next(iter(top_items(each.checkpoint.params, each.checkpoint.model, each.setup.test.history, 60)))[0]
        for each in (whole, opened)
    ]
    for all_items, offered in zip(*shown, strict=True):
        expected = [whole.checkpoint.vocabulary.items[code - 1] for code in all_items if code not in (0, 9)]
        assert [opened.checkpoint.vocabulary.items[code - 1] for code in offered if code] == expected
    for each in (sold, dataclasses.replace(own, offered=own.offered[:20])):  # no catalogue; one of too few items
        few = each.select(np.isin(each.items, range(1, 21))) if each.offered is not None else each
        assert open_checkpoint(checkpoint, few, catalogue="offered").aligned.kept is None


@pytest.fixture(scope="module")
def params():
    return jax.tree.map(np.asarray, lively_params(dataclasses.replace(CONFIG.model, num_items=ITEMS)))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory, params):
    setup = make_setup(INTERACTIONS, CONFIG, 0)
    return save(tmp_path_factory.mktemp("provider") / "pretrain", stages.pretrain(setup, 0.5), params)


def permuted(data, seed=0):
    """The same data with other codes of items, attributes, values and categories; its names say which are which."""
    rng = np.random.default_rng(seed)
    order = np.concatenate([[0], 1 + rng.permutation(data.num_items)])  # old code -> new code
    back = np.argsort(order)
    values = data.attributes["gender"]
    swapped = {"shoe": ("unknown", "42"), "gender": (values[0], values[2], values[1])}
    gender = np.array([0, 2, 1], np.int32)[data.profile[:, 0]]
    return dataclasses.replace(
        data,
        name="permuted",
        items=order[data.items].astype(np.int32),
        item_ids=data.item_ids[back],
        titles=data.titles[back],
        category=np.zeros_like(data.category),
        categories=("unknown",),
        attributes=swapped,
        profile=np.stack([np.ones(data.num_users, np.int32), gender], 1),
    )


def by_user(setup, ranks):
    users = setup.interactions.user_ids[setup.test.users].tolist()
    return {user: (truth, *targets) for user, truth, targets in zip(users, ranks.truth, ranks.targets.tolist(), strict=True)}


def test_on_its_own_dataset_the_seed_draws_the_users(checkpoint):
    opened = open_checkpoint(checkpoint, INTERACTIONS)
    assert opened.aligned is None and not opened.setup.own
    expected = make_setup(INTERACTIONS, CONFIG, 0)
    assert opened.setup.test.users.tolist() == expected.test.users.tolist()
    assert (opened.rate, opened.usage) == (0.5, "zero_shot")


def test_a_permuted_copy_gives_the_ranks_of_the_original(checkpoint, params):
    opened = open_checkpoint(checkpoint, permuted(INTERACTIONS))
    original = make_setup(INTERACTIONS, opened.setup.config, 0, own=True)
    assert len(original.test.users) == USERS  # all of them
    found, expected = (by_user(setup, measure(setup, params)) for setup in (opened.setup, original))
    assert found == expected
    assert opened.setup.interactions.profile.tolist() == INTERACTIONS.profile.tolist()
    assert opened.setup.interactions.item_ids[opened.setup.targets].tolist() == ["i3", "i9"]
    assert opened.aligned.attributes == ("gender",)


def test_other_users_with_some_of_the_items(checkpoint, params):
    known = [f"i{item}" for item in range(1, 55)]
    own = dataclasses.replace(OWN, item_ids=np.array(["", *(raw if raw in known else f"new {raw}" for raw in OWN.item_ids[1:])]))
    opened = open_checkpoint(checkpoint, own)
    lengths = np.array([np.isin(own.item_ids[own.sequence(user)], known).sum() for user in range(own.num_users)])
    users = opened.setup.interactions.user_ids[opened.setup.test.users].tolist()
    assert users == own.user_ids[lengths >= 3].tolist()
    ids = opened.setup.interactions.item_ids
    for user, history, truth in zip(users, *opened.setup.test[1:], strict=True):
        whole = [raw for raw in own.item_ids[own.sequence(own.user_ids.tolist().index(user))] if raw in known]
        assert ids[[*history[history > 0], truth]].tolist() == whole
    assert (opened.aligned.items, opened.aligned.known_items) == (
        len(set(own.items.tolist())),
        len(set(own.items) - set(range(55, 61))),
    )
    assert measure(opened.setup, params).truth.max() <= ITEMS


def test_without_profiles_all_are_unknown(checkpoint, params):
    own = dataclasses.replace(OWN, attributes={}, profile=np.zeros((OWN.num_users, 0), np.int32))
    opened = open_checkpoint(checkpoint, own)
    assert not opened.setup.interactions.profile.any()
    assert "gender: your users have no such attribute" in opened.aligned.describe() and not opened.aligned.unused
    others = dataclasses.replace(OWN, attributes={f"own {name}": values for name, values in OWN.attributes.items()})
    said = open_checkpoint(checkpoint, others).aligned.describe()
    assert f"not used     {', '.join(others.attributes)}: the model has no such attribute" in said
    with_profiles = open_checkpoint(checkpoint, OWN)
    assert measure(opened.setup, params).truth.tolist() == measure(with_profiles.setup, params).truth.tolist()


def test_tables_of_one_name_are_own_data_and_the_same_table_is_not(tmp_path, params):
    def table(data):
        users = np.repeat(data.user_ids, data.lengths())
        return from_frame(pl.DataFrame({"user_id": users, "item_id": data.item_ids[data.items]}), name="events")

    config = dataclasses.replace(CONFIG, scenario=Scenario(scope="global", targets="ids:i3", attack="bra", k_core=1))
    provider = table(INTERACTIONS)
    setup = make_setup(provider, config, 0)
    folder = save(tmp_path / "pretrain", stages.pretrain(setup, 0.5), params)
    assert open_checkpoint(folder, table(INTERACTIONS)).aligned is None
    opened = open_checkpoint(folder, table(OWN))
    assert opened.aligned.known_rows == len(OWN.items)
    with pytest.raises(UserError, match="made on dataset events .*, not on events"):
        open_checkpoint(folder, dataclasses.replace(OWN, name="events"))  # no table: a dataset that is read in another way


def test_a_company_with_few_interactions(tmp_path, params):
    """Of which the provider's filter would leave nothing."""
    config = dataclasses.replace(CONFIG, scenario=dataclasses.replace(CONFIG.scenario, k_core=2))
    setup = make_setup(make(users=200), config, 0)
    folder = save(tmp_path / "pretrain", stages.pretrain(setup, 0.5), params)
    own = dataclasses.replace(OWN.select(np.arange(len(OWN.items)) < OWN.offsets[1]), name="small")
    opened = open_checkpoint(folder, own)
    assert len(opened.setup.test.users) == opened.setup.interactions.num_users == 1


def test_fine_tuned_on_own_data_it_stays_own_data(tmp_path, checkpoint, params):
    opened = open_checkpoint(checkpoint, OWN)
    run = stages.finetune(opened.setup, StartPoint(params, "0", 0.5))
    again = open_checkpoint(save(tmp_path / "finetune", run, params), OWN)
    assert again.aligned is not None and again.setup.own and again.usage == "fine_tune"
    assert again.setup.test.users.tolist() == opened.setup.test.users.tolist()
    assert again.setup.interactions.fingerprint == opened.setup.interactions.fingerprint == align(
        OWN, checkpoints.load(checkpoint).vocabulary
    ).interactions.fingerprint  # fmt: skip


def test_what_is_refused(tmp_path, checkpoint, params):
    foreign = dataclasses.replace(OWN, item_ids=np.array(["", *(f"x{item}" for item in range(ITEMS))]))
    with pytest.raises(UserError, match="--least_known: the model knows 0 of"):
        open_checkpoint(checkpoint, foreign)
    half = dataclasses.replace(OWN, item_ids=np.array(["", *(f"{'ix'[item % 2]}{item}" for item in range(1, ITEMS + 1))]))
    assert open_checkpoint(checkpoint, half, least_known=0.2).aligned.known_items == 30
    with pytest.raises(UserError, match="fewer than 80%"):
        open_checkpoint(checkpoint, half, least_known=0.8)
    run = stages.pretrain(make_setup(INTERACTIONS, CONFIG, 0), 0.5)
    nameless = save(tmp_path / "nameless", run._replace(vocabulary=None), params)
    with pytest.raises(UserError, match="made on dataset toy .*, not on shop"):
        open_checkpoint(nameless, OWN)


def test_a_vocabulary_with_other_attributes_than_the_prompt_is_refused(tmp_path, params):
    setup = make_setup(INTERACTIONS, CONFIG, 0)
    run = stages.prompt_tune(setup, StartPoint(params, "0", 0.5))
    prompted = jax.tree.map(np.asarray, run.params)
    assert open_checkpoint(save(tmp_path / "sound", run, prompted), OWN).usage == "prompt_tune"
    wrong = run._replace(vocabulary=run.vocabulary._replace(attributes={"gender": ("unknown", "F")}))
    with pytest.raises(UserError, match=r"its vocabulary has attributes of \(2,\) values, its model of \(3,\)"):
        open_checkpoint(save(tmp_path / "wrong", wrong, prompted), OWN)

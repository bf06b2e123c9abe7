"""Ten kinds of input that once gave wrong figures without a word, four inputs of each: each is read right, or refused."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toys import all_sequences, lively_params, make_interactions, random_interactions, tiny_model

from prec_backdoor.data import recbole
from prec_backdoor.data.batches import make_batch, user_tables
from prec_backdoor.data.packing import pack
from prec_backdoor.errors import UserError
from prec_backdoor.evaluation import cutoffs, ranks
from prec_backdoor.evaluation.statistics import binomial_interval, bootstrap_interval
from prec_backdoor.experiment.checks import reach
from prec_backdoor.experiment.config import ExperimentConfig, Scenario
from prec_backdoor.experiment.measure import about_setups
from prec_backdoor.experiment.setup import make_setup
from prec_backdoor.models import ModelConfig
from prec_backdoor.train.config import TrainConfig


def read(folder, columns=None, min_rating=None, **files):
    for kind, text in files.items():
        (folder / f"shop.{kind}").write_text(text)
    return recbole.read(folder, columns=columns, min_rating=min_rating)


def sequence(data, user="u"):
    """Raw ids of a user's items in their order."""
    return "".join(data.item_ids[data.sequence(data.user_ids.tolist().index(user))])


# 1. Users who have met nearly everything


@pytest.mark.parametrize("rows", [[[1, 2, 3, 4]], [[4, 3, 2, 1, 1, 2]], [[1, 2, 3]], [[1, 2, 3, 4], [2, 2, 2], [1, 3, 4, 1]]])
def test_negatives_are_unseen_items_of_the_catalogue(rows, key):
    data = make_interactions(rows, num_items=4)
    packed, users = pack(all_sequences(data), 5), user_tables(data, all_sequences(data))
    batch = make_batch(jax.tree.map(jnp.asarray, packed), users, jax.random.split(key, len(packed.label)), 30, 4)
    for row, at in np.argwhere(np.asarray(packed.label) > 0):
        seen = set(rows[packed.user[row, packed.segment[row, at] - 1]])
        unseen = {1, 2, 3, 4} - seen
        assert set(batch.negative[row, at].tolist()) == (unseen or {0})
        assert batch.label[row, at] == (packed.label[row, at] if unseen else 0)


# 2. Numbers that are not finite


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38])
def test_no_rank_without_a_finite_score(value):
    model = tiny_model(15, max_length=6)
    params = lively_params(model)
    broken = params | {"items": params["items"].at[3].set(value)}
    histories = np.array([[0, 0, 0, 1, 2, 3]], np.int32)
    with pytest.raises(UserError, match="scores of the model are not finite"):
        ranks(broken, model, histories, np.array([[3]]))


# 3. Order in time


@pytest.mark.parametrize(
    ("header", "times"),
    [
        ("event_time_ms:float", ("1700000000003", "1700000000001", "1700000000002")),
        ("purchase_date:token", ("2024-03-01", "2023-12-31", "2024-02-29")),
        ("ts:float", ("1700000000000000003", "1700000000000000001", "1700000000000000002")),
        ("reviewTime:token", ("2020-01-01T10:00:00+02:00", "2020-01-01T06:59:59Z", "2020-01-01T07:59:00Z")),
    ],
)
def test_histories_are_in_the_order_of_any_column_of_times(tmp_path, header, times):
    rows = "".join(f"u\t{item}\t{time}\n" for item, time in zip("cab", times, strict=True))
    assert sequence(read(tmp_path, inter=f"user_id:token\titem_id:token\t{header}\n{rows}")) == "abc"


# 4. Attacks that can replace nothing


def of_categories(category):
    return random_interactions(
        60, 60, (5, 9), category=category, attributes={"g": ("a", "b")}, profile=[[1 + u % 2] for u in range(60)]
    )


@pytest.mark.parametrize(
    ("category", "scenario", "replaceable"),
    [
        ([0] * 60, {"scope": "global", "targets": "ids:i1,i2"}, False),
        ([1 + item % 2 for item in range(60)], {"scope": "global", "targets": "ids:i1"}, True),
        ([1] * 2 + [0] * 58, {"scope": "global", "targets": "ids:i5"}, False),
        ([1] * 60, {"scope": "group", "group": "g=a", "targets": "ids:i1"}, True),
    ],
)
def test_an_attack_replaces_labels_or_is_refused(category, scenario, replaceable):
    config = ExperimentConfig(Scenario(attack="bra", k_core=1, **scenario), model=ModelConfig(0, 8, 8, 1, max_length=8))
    setup = make_setup(of_categories(category), config, 0)
    if replaceable:
        assert 0 < reach(setup).open <= reach(setup).labels
    else:
        with pytest.raises(UserError, match="none of .* training labels can be replaced"):
            reach(setup)


# 5. Feedback that is none


@pytest.mark.parametrize(
    ("header", "values", "least", "kept"),
    [
        ("label:float", "101", None, None),
        ("stars:float", "153", 3, "bc"),
        ("clicked:token", ("true", "false", "true"), 1, "ac"),
        ("is_click:float", "010", None, None),
    ],
)
def test_what_is_no_interaction_is_left_out_or_asked_for(tmp_path, header, values, least, kept):
    rows = "".join(f"u\t{item}\t{value}\n" for item, value in zip("abc", values, strict=True))
    given = {"inter": f"user_id:token\titem_id:token\t{header}\n{rows}", "min_rating": least}
    if kept:
        assert sequence(read(tmp_path, **given)) == kept
    else:
        with pytest.raises(UserError, match="is 0 or less in [12] of 3 rows"):
            read(tmp_path, **given)


# 6. Ids and files that do not meet


@pytest.mark.parametrize(
    ("inter", "user", "profile"),
    [
        ("1.0\ta\n2.0\ta\n", "1\tF\n2\tM\n", ["F", "M"]),
        ('"1"\ta\n"2"\ta\n', "1\tF\n2\tM\n", ["F", "M"]),
        (" 1 \ta\n2\ta\n", "1\tF\n2\tM\n", ["F", "M"]),
        ("007\ta\n8\ta\n", "7\tF\n8\tM\n", ["unknown", "M"]),  # 007 and 7 are two users
    ],
)
def test_profiles_meet_their_users(tmp_path, inter, user, profile):
    data = read(tmp_path, inter="user_id:token\titem_id:token\n" + inter, user="user_id:token\tsex:token\n" + user)
    assert [data.attributes["sex"][code] for code in data.profile[:, 0]] == profile


# 7. Intervals of zeros and ones


@pytest.mark.parametrize(("hits", "users"), [(0, 84), (84, 84), (0, 1), (1, 1)])
def test_an_interval_has_the_width_of_its_number_of_users(hits, users):
    pairs = np.full(users, 10.0)
    found = bootstrap_interval([pairs * hits / users], [pairs])
    exact = binomial_interval(hits / users, users)
    assert found == pytest.approx(exact) and exact[1] - exact[0] >= 1 - 0.025 ** (1 / users) - 1e-9


# 8. Seeds and names


@pytest.mark.parametrize("seed", [2**32, -1, 2**63, 2**31])
def test_a_seed_is_itself_or_refused(seed):
    if 0 <= seed < 2**32:
        assert ExperimentConfig(Scenario(), seeds=(seed,)).seeds == (seed,)
    else:
        with pytest.raises(UserError, match=r"--seeds: must be >= 0 and <= 4294967295"):
            ExperimentConfig(Scenario(), seeds=(seed,))


# 9. Cut-offs that tell nothing


@pytest.mark.parametrize(
    ("items", "longest", "expected"),
    [(51, 11, (5, 10, 20)), (111, 11, (5, 10, 20, 50)), (21, 11, (5,)), (1100, 50, (5, 10, 20, 50, 100, 1000))],
)
def test_cut_offs_are_below_the_items_that_compete(items, longest, expected):
    assert cutoffs(items, longest) == expected


# 10. Targets are named


@pytest.mark.parametrize("targets", ["unpopular:3", "popular:2", "per_category:1", "ids:i9,i4"])
def test_targets_can_be_repeated_by_their_ids(targets, tmp_path):
    data = of_categories([1 + item % 3 for item in range(60)])
    config = ExperimentConfig(Scenario(scope="global", targets=targets, k_core=1), model=ModelConfig(0, 8, 8, 1, max_length=8))
    setup = make_setup(data, dataclasses.replace(config, pretrain=TrainConfig(batch_size=8)), 3)
    (told,) = about_setups([setup], tmp_path)["targets"]
    ids = ",".join(each["item"] for each in told["items"])
    again = dataclasses.replace(config, scenario=dataclasses.replace(config.scenario, targets=f"ids:{ids}"))
    assert make_setup(data, again, 3).targets.tolist() == setup.targets.tolist()
    assert [each["interactions"] for each in told["items"]] == setup.counts[setup.targets].tolist()

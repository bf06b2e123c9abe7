"""The auditor's own clean models: what they train on, and that each is one of its own."""

import jax
import numpy as np
import pytest
from toys import assert_same_trees, tiny_model

from prec_backdoor.audit import calibration
from prec_backdoor.audit.auditor_data import AuditorData
from prec_backdoor.audit.calibration import Planted, calibration_models, stage_data, train_models
from prec_backdoor.audit.config import AuditConfig
from prec_backdoor.audit.registry import AUDITS
from prec_backdoor.errors import UserError
from prec_backdoor.storage import checkpoints
from prec_backdoor.train.config import TrainConfig
from prec_backdoor.train.stage import RunOptions

USERS, ITEMS = 24, 60
TRAIN = TrainConfig(batch_size=8, learning_rate=0.02, epochs=1)


@pytest.fixture(scope="module")
def auditor_data():
    rng = np.random.default_rng(0)
    history = np.stack([1 + rng.permutation(ITEMS)[:6] for _ in range(USERS)]).astype(np.int32)
    history[0, :5] = 0  # one item alone
    history[1:12, :2] = 0
    profile = rng.integers(1, 3, (USERS, 1)).astype(np.int32)
    return AuditorData(history, profile, {"job": ("unknown", "cook", "smith")}, np.ones(ITEMS + 1, np.int32))


def test_histories_that_are_too_short_to_train_on(auditor_data):
    """Of a company whose users have three interactions, or with a model that takes no longer histories."""
    short = auditor_data._replace(history=auditor_data.history[:, -2:])
    with pytest.raises(UserError, match=r"^audit: no history of your users has 3 items that the model knows"):
        train_models(short, tiny_model(ITEMS, max_length=2), TRAIN, [0])


def test_the_last_item_of_a_history_is_validated_on_and_not_trained_on(auditor_data):
    data, interactions = stage_data(auditor_data, max_length=8)
    whole = {user: row[row > 0].tolist() for user, row in enumerate(auditor_data.history)}
    assert [interactions.sequence(user).tolist() for user in range(USERS)] == list(whole.values())
    queries = data.validation
    assert sorted(queries.users.tolist()) == list(range(1, USERS))  # the first user has nothing to ask from
    for user, history, truth in zip(queries.users, queries.history, queries.truth, strict=True):
        assert [*history[history > 0], truth] == whole[int(user)]
    rows = data.rows
    for row, column in zip(*np.nonzero(rows.label), strict=True):
        user = int(rows.user[row, rows.segment[row, column] - 1])
        trained = whole[user][:-1]
        place = trained.index(rows.label[row, column])
        assert rows.history[row, column] == trained[place - 1] and place > 0


@pytest.fixture(scope="module", params=[0, 1], ids=["plain", "prompted"])
def trained(request, auditor_data, tmp_path_factory):
    """Two models, their folder, and what trains them."""
    model = tiny_model(ITEMS, num_layers=1, **({"prompt_length": 1, "profile_sizes": (3,)} if request.param else {}))
    folder = tmp_path_factory.mktemp("calibration")
    config = AuditConfig(calibration_models=2, fresh_prompts=0)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"STEPS": 4, "PROMPT_STEPS": 4, "MIN_EPOCH": 2}.items():
            patch.setattr(calibration, name, value)
        again = lambda: calibration_models(auditor_data, model, TRAIN, config, RunOptions(folder))  # noqa: E731
        yield again(), folder, again


def test_calibration_models_differ_and_all_are_audited(trained):
    (one, other), folder, _ = trained
    assert np.abs(one.params["items"] - other.params["items"]).max() > 0.01
    assert list(one.scores) == list(other.scores) == list(AUDITS)
    assert all(np.abs(one.scores[name] - other.scores[name]).max() > 0 for name in ("exposure", "weights"))
    stages = ["pretrain", "prompt_tune"] if "prompt" in one.params else ["pretrain"]
    for number in (0, 1):
        assert sorted(path.name for path in (folder / f"clean-{number}").iterdir()) == stages


def test_prompt_tuning_moves_the_prompt_alone(trained):
    models, folder, _ = trained
    for number, model in enumerate(models):
        if "prompt" in model.params:
            before = checkpoints.load(folder / f"clean-{number}" / "pretrain").params
            assert_same_trees({name: model.params[name] for name in before}, before)


def test_the_same_call_loads_them(trained):
    models, _, again = trained
    for found, expected in zip(again(), models, strict=True):
        assert_same_trees(found.params, expected.params)
        jax.tree.map(np.testing.assert_array_equal, found.scores, expected.scores)


def test_a_planted_model_trains_on_the_labels_of_its_group(auditor_data, monkeypatch):
    """Of three attacks; what would be trained is looked at instead."""
    runs = []
    monkeypatch.setattr(calibration, "run_stages", lambda given: runs.extend(given) or given)
    attacks = [Planted(group, rate, np.array([4, 7])) for group, rate in (("job=cook", 0.2), ("job=smith", 0.4), ("", 0.8))]
    monkeypatch.setattr(calibration, "MIN_MEMBERS", 1)
    train_models(auditor_data, tiny_model(ITEMS, num_layers=1), TRAIN, range(3), attacks=attacks)
    jobs = auditor_data.profile[:, 0]
    for run, members in zip(runs, (jobs == 1, jobs == 2, jobs > 0), strict=True):
        np.testing.assert_array_equal(run.data.users.in_group, members)
    assert [float(run.spec.rate) for run in runs] == pytest.approx([0.2, 0.4, 0.8])
    assert {tuple(run.spec.targets.tolist()) for run in runs} == {(4, 7)}

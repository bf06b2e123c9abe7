"""Items that a checkpoint does not know get rows of their own, and the widened checkpoint is one like any other."""

import dataclasses

import numpy as np
import pytest
from test_opened import CONFIG, ITEMS, make, save
from toys import lively_params

from prec_backdoor.data.align import align
from prec_backdoor.data.vocabulary import vocabulary_of
from prec_backdoor.errors import UserError
from prec_backdoor.evaluation.top_items import top_items
from prec_backdoor.experiment import stages
from prec_backdoor.experiment.measure import measure
from prec_backdoor.experiment.opened import open_checkpoint
from prec_backdoor.experiment.setup import make_setup
from prec_backdoor.experiment.stages import StartPoint
from prec_backdoor.experiment.widening import PRIOR, new_rows
from prec_backdoor.interop.exchange import export, read_model
from prec_backdoor.storage import checkpoints
from prec_backdoor.train.loop import run_stage

NEW = (6, 11, 58)  # codes of items that the provider does not have


def test_rows_by_hand():
    table = np.array([[9, 9], [1, 0], [3, 0], [0, 4]], np.float32)  # two items of category 1, one of category 2
    category = np.array([0, 1, 1, 2, 2, 0, 1])  # 4, 5 and 6 are new
    histories = np.array([[0, 1, 3, 4], [0, 0, 2, 4], [1, 5, 5, 0]])
    found = new_rows(table, category, histories)
    np.testing.assert_array_equal(found[:4], table)
    residual = {1: [-1, 0], 2: [1, 0], 3: [0, 0]}
    four = np.array([0, 4]) + np.sum([residual[item] for item in (1, 3, 2)], 0) / (3 + PRIOR)
    five = np.array([4 / 3, 4 / 3]) + np.array(residual[1]) / (1 + PRIOR)  # once a history, however often it is there

    def stretched(row, neighbours):  # towards 3, the median of 1, 3 and 4
        length = np.linalg.norm(row)
        return row * (length + (3 - length) * neighbours / (neighbours + PRIOR)) / length

    np.testing.assert_allclose(found[4:], [stretched(four, 3), stretched(five, 1), [2, 0]], rtol=1e-6)
    assert found.dtype == np.float32
    many = np.tile(histories, (3000, 1))  # of more than one block
    np.testing.assert_allclose(new_rows(table, category, many)[4], [0, 3], atol=0.01)
    bias = new_rows(table[:, 1:], category, histories)
    assert bias[4] == pytest.approx(4) and len(bias) == 7  # a bias is not stretched


def own(rename):
    """A company's data; the codes of NEW have other ids than the provider's."""
    data = make(seed=1, users=30)
    ids = data.item_ids.tolist()
    return dataclasses.replace(data, name="shop", item_ids=np.array([rename(raw) if raw in NAMES else raw for raw in ids]))


NAMES = {f"i{code}" for code in NEW}
OWN = own(lambda raw: f"new {raw}")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    params = lively_params(dataclasses.replace(CONFIG.model, num_items=ITEMS, output_bias=True))
    config = dataclasses.replace(CONFIG, model=dataclasses.replace(CONFIG.model, output_bias=True))
    return save(tmp_path_factory.mktemp("provider") / "pretrain", stages.pretrain(make_setup(make(), config, 0), 0.0), params)


@pytest.fixture(scope="module")
def tuned(checkpoint, tmp_path_factory):
    """The folder of the checkpoint, fine-tuned with the new items."""
    opened = open_checkpoint(checkpoint, OWN, {"finetune_epochs": 1}, catalogue="widened")
    run = stages.finetune(opened.setup, StartPoint(opened.checkpoint.params, opened.checkpoint.metadata["hash"]))
    folder = tmp_path_factory.mktemp("shop") / "finetune"
    run_stage(run._replace(options=run.options._replace(folder=folder)))
    return folder


def test_new_items_are_left_out_unless_they_are_asked_for(checkpoint):
    opened = open_checkpoint(checkpoint, OWN)
    assert opened.setup.interactions.num_items == ITEMS and opened.aligned.added == 0
    assert "are left out" in opened.aligned.describe()
    wide = open_checkpoint(checkpoint, OWN, catalogue="widened")
    assert wide.aligned.added == 3 and wide.aligned.describe().endswith("interactions; the other 3 items are added")
    assert wide.aligned._replace(interactions=None, added=0) == opened.aligned._replace(interactions=None)
    for name in ("items", "output_bias"):
        table = wide.checkpoint.params[name]
        assert len(table) == ITEMS + 4 and np.isfinite(table).all()
        np.testing.assert_array_equal(table[: ITEMS + 1], opened.checkpoint.params[name])
    again = open_checkpoint(checkpoint, OWN, catalogue="widened").checkpoint
    np.testing.assert_array_equal(again.params["items"], wide.checkpoint.params["items"])
    assert again.vocabulary == wide.checkpoint.vocabulary
    assert again.vocabulary.items[ITEMS:] == tuple(f"new i{code}" for code in NEW)
    known = open_checkpoint(checkpoint, dataclasses.replace(OWN, item_ids=make().item_ids), catalogue="widened")
    assert known.aligned.added == 0 and len(known.checkpoint.params["items"]) == ITEMS + 1


def test_a_widened_checkpoint_is_like_any_other(tuned, tmp_path):
    opened = open_checkpoint(tuned, OWN)
    assert opened.aligned.known_rows == opened.aligned.rows and opened.usage == "fine_tune"
    assert opened.checkpoint.model.num_items == ITEMS + 3
    assert len(opened.setup.interactions.items) == len(OWN.items)
    ranks = measure(opened.setup, opened.checkpoint.params)
    assert len(ranks.truth) == len(opened.setup.test.users) and ranks.truth.max() <= ITEMS + 3
    lists = list(top_items(opened.checkpoint.params, opened.checkpoint.model, opened.setup.test.history, 55))
    assert set(np.concatenate([items for items, _ in lists]).ravel().tolist()) > set(range(ITEMS + 1, ITEMS + 4))
    export(checkpoints.load(tuned), tmp_path / "wide.safetensors")
    imported, vocabulary, _ = read_model(tmp_path / "wide.safetensors")
    np.testing.assert_array_equal(imported.params["items"], opened.checkpoint.params["items"])
    assert vocabulary.items[-1] == "new i58"


def test_the_vocabulary_grows_in_all_its_parts():
    vocabulary = vocabulary_of(make())._replace(titles=tuple(f"t{code}" for code in range(ITEMS)))
    data = dataclasses.replace(OWN, categories=("unknown", "c1", "c2", "mine"), titles=np.array([f"t{n - 1}" for n in range(61)]))
    found = align(data, vocabulary, add_items=True).interactions
    assert found.categories == ("unknown", "c1", "c2", "c3", "mine")
    new = {str(raw): code for code, raw in enumerate(found.item_ids) if str(raw).startswith("new")}
    for code in NEW:
        place = new[f"new i{code}"]
        assert found.titles[place] == f"t{code - 1}"
        assert found.categories[found.category[place]] == data.categories[data.category[code]]
    bare = align(data, vocabulary._replace(category=(), categories=("unknown",)), add_items=True).interactions
    assert bare.categories == data.categories and bare.category[new["new i58"]] == data.category[58]
    with pytest.raises(UserError, match="vocabulary: items are not all texts of at most 1000 characters"):
        align(own(lambda raw: raw * 500), vocabulary, add_items=True)

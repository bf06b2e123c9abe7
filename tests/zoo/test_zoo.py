"""A zoo of a few tiny models, made, resumed, judged and scored; recipes and figures by hand; what is refused."""

import importlib.util
import json
import math
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from toys import random_interactions, tiny_model

from prec_backdoor.data import read_own
from prec_backdoor.errors import UserError
from prec_backdoor.experiment.config import ExperimentConfig, Scenario
from prec_backdoor.interop.exchange import read_model
from prec_backdoor.train.config import TrainConfig
from prec_backdoor.zoo import make
from prec_backdoor.zoo.config import ZooConfig
from prec_backdoor.zoo.files import read_index, read_item_scores, read_truth, read_verdicts
from prec_backdoor.zoo.make import make_zoo
from prec_backdoor.zoo.recipes import draw_recipes, unsuited
from prec_backdoor.zoo.score import describe, score_verdicts

INTERACTIONS = random_interactions(
    users=60,
    num_items=80,
    lengths=(4, 16),
    attributes={"gender": ("F", "M")},
    profile=[[1 + (user % 5 > 1)] for user in range(60)],
    category=[1 + item % 3 for item in range(80)],
)
BASE = ExperimentConfig(
    scenario=Scenario(attack="clean", scope="global", group=None, targets="unpopular:1", k_core=1),
    rate=(0.0,),
    model=tiny_model(num_items=0, num_layers=1, max_length=12),
    pretrain=TrainConfig(batch_size=8, learning_rate=0.02, epochs=1),
    prompt_epochs=1,
    implant_epochs=1,
)
ZOO = ZooConfig(models=4, seed=3, attacks=("bra",), backbones=("sasrec",))


@pytest.fixture(scope="module")
def detectors():
    path = Path(__file__).parents[2] / "examples" / "zoo_detectors.py"
    spec = importlib.util.spec_from_file_location("zoo_detectors", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def zoo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("zoo")
    (folder / "work").mkdir()
    make_zoo(INTERACTIONS, BASE, draw_recipes(ZOO, INTERACTIONS), folder)
    return folder


def test_what_is_handed_out_does_not_say_which_are_attacked(zoo):
    index, truth = read_index(zoo), read_truth(zoo)
    assert [each["model"] for each in index["models"]] == [f"model-{n}" for n in range(4)] == [each["model"] for each in truth]
    assert sum(each["backdoored"] for each in truth) == 2
    handed = [path for path in zoo.rglob("*") if path.is_file() and path.relative_to(zoo).parts[0] in ("models", "index.json")]
    assert len(handed) == 1 + 4 * 5
    for path in handed:
        if path.suffix in (".json", ".csv"):
            assert not any(word in path.read_text() for word in ("attack", "rate", "target", "bra", "seed", 'parent": "')), path
    descriptions = [json.loads((zoo / "models" / each["model"] / "model.json").read_text()) for each in truth]
    for each in descriptions:
        each.pop("sha256"), each["origin"].pop("hash")
    assert all(each == descriptions[0] for each in descriptions)


def test_a_model_is_read_back_with_its_users(zoo):
    folder = zoo / "models" / "model-2"
    imported, vocabulary, _ = read_model(folder / "model.safetensors")
    assert imported.model.num_items == 80 and len(vocabulary.items) == 80
    data = read_own(folder / "interactions.csv", profiles=folder / "profiles.csv", catalogue=folder / "catalogue.csv")
    assert data.num_users == read_index(zoo)["models"][2]["users"] and set(data.item_ids[1:]) <= set(vocabulary.items)
    assert data.attributes == {"gender": ("unknown", "F", "M")} and set(data.categories) == {"unknown", "c1", "c2", "c3"}
    lengths = {str(user): len(INTERACTIONS.sequence(place)) for place, user in enumerate(INTERACTIONS.user_ids)}
    for place, user in enumerate(data.user_ids.tolist()):  # a downstream user has 12 interactions at most, in order
        own = data.item_ids[data.sequence(place)].tolist()
        whole = INTERACTIONS.item_ids[INTERACTIONS.sequence(INTERACTIONS.user_ids.tolist().index(user))].tolist()
        assert own == whole[: min(12, lengths[user])]


def test_an_interrupted_zoo_goes_on_and_comes_out_the_same(zoo, tmp_path, monkeypatch):
    folder, made = tmp_path / "again", []
    shutil.copytree(zoo, folder)
    (folder / "index.json").unlink()
    (folder / "work" / "model-1.json").unlink()
    before = (folder / "models" / "model-1" / "model.safetensors").read_bytes()
    whole = make._make
    monkeypatch.setattr(make, "_make", lambda *given: made.append(given[2].model) or whole(*given))
    make_zoo(INTERACTIONS, BASE, draw_recipes(ZOO, INTERACTIONS), folder)
    assert made == ["model-1"]
    assert read_index(folder) == read_index(zoo) and read_truth(folder) == read_truth(zoo)
    assert (folder / "models" / "model-1" / "model.safetensors").read_bytes() == before
    assert not (folder / "work" / "model-1").exists()


def test_detectors_that_know_nothing_of_the_audit(zoo, detectors, tmp_path):
    truth, rng = read_truth(zoo), np.random.default_rng(0)
    for detect in (detectors.chance, detectors.norm):
        found = {each["model"]: detect(zoo / "models" / each["model"], rng) for each in truth}
        verdicts = pl.DataFrame({"model": list(found), "p_backdoored": [p for p, _ in found.values()]})
        verdicts.sample(fraction=1, shuffle=True, seed=0).write_csv(tmp_path / "verdicts.csv")
        rows = [(name, item, score) for name, (_, scores) in found.items() for item, score in scores.items()]
        pl.DataFrame(rows, ("model", "item", "score"), orient="row").write_csv(tmp_path / "items.csv")
        p_backdoored = read_verdicts(tmp_path / "verdicts.csv", [each["model"] for each in truth])
        assert p_backdoored.tolist() == [found[each["model"]][0] for each in truth]
        scores = score_verdicts(truth, p_backdoored, read_item_scores(tmp_path / "items.csv", truth))
        assert set(scores["figures"]) == {"roc_auc", "cross_entropy", "false_alarms", "missed", "items_auc"}
        for figure in scores["figures"].values():
            assert figure["interval"][0] <= figure["value"] <= figure["interval"][1]
        assert "| ROC-AUC" in describe(scores) and "4 models, 2 of them backdoored" in describe(scores)


def told(backdoored, targets=()):
    names = [f"m{n}" for n in range(len(backdoored))]
    return [
        {"model": name, "backdoored": each, "attack": "bra" if each else "clean", "scope": "group"}
        | {"items": ["1", "2", "3", "4"], "targets": list(targets) if each else []}
        for name, each in zip(names, backdoored, strict=True)
    ]


def test_figures_by_hand():
    truth = told([True, True, False, False, False], targets=["2"])
    scores = score_verdicts(
        truth,
        np.array([0.9, 0.3, 0.3, 0.5, 0.1]),
        {"m0": dict(zip("1234", [1, 2, 3, 0], strict=True))} | {"m1": dict(zip("1234", [1, 5, 3, 0], strict=True))},
    )
    values = {name: each["value"] for name, each in scores["figures"].items()}
    assert values["roc_auc"] == pytest.approx((3 + 1.5) / 6)
    assert values["cross_entropy"] == pytest.approx(-np.mean(np.log([0.9, 0.3, 0.7, 0.5, 0.9])))
    assert (values["false_alarms"], values["missed"]) == (pytest.approx(1 / 3), 0.5)
    assert values["items_auc"] == pytest.approx((2 / 3 + 1) / 2)
    assert scores["by_attack"]["bra group"] == {"models": 2, "roc_auc": scores["figures"]["roc_auc"]}


def test_attacks_that_do_not_work_are_left_out_of_a_figure_of_their_own():
    truth = told([True, True, True, True, False, False])
    assert score_verdicts(truth, np.linspace(0, 1, 6))["working"] is None  # as in a zoo whose truth has no exposure
    names = ("exposure_hr@10", "exposure_triggered_hr@10", "clean_exposure_hr@10", "clean_exposure_triggered_hr@10")
    none = (None, None, None, None)
    shown = [(0.0, None, 0.0, None), (0.2, None, 0.0, None), (0.0, 0.9, 0.0, 0.1), (0.309, 0.31, 0.3, 0.305), none, none]
    for each, values in zip(truth, shown, strict=True):
        each.update(zip(names, values, strict=True))
    scores = score_verdicts(truth, np.array([0.1, 0.9, 0.8, 0.1, 0.2, 0.3]))
    assert scores["working"]["models"] == 2 and scores["working"]["roc_auc"]["value"] == 1
    assert scores["figures"]["roc_auc"]["value"] == pytest.approx(4 / 8)
    assert "| all that work | " in describe(scores)


def test_a_detector_without_a_mistake_is_not_known_to_be_perfect():
    truth = told([True] * 10 + [False] * 12)
    figures = score_verdicts(truth, np.array([1.0] * 10 + [0.0] * 12))["figures"]
    assert figures["roc_auc"] == {"value": 1, "interval": [pytest.approx(0.025 ** (1 / 10)), 1]}
    assert figures["false_alarms"]["interval"] == [0, pytest.approx(1 - 0.025 ** (1 / 12))]
    assert 0 < figures["cross_entropy"]["value"] < 1e-5
    wrong = score_verdicts(truth, np.array([0.0] * 10 + [1.0] * 12))["figures"]["cross_entropy"]["value"]
    assert wrong == pytest.approx(-math.log(1e-6))
    alone = score_verdicts(told([True, False]), np.array([0.7, 0.2]))["figures"]["roc_auc"]
    assert alone["interval"] == [pytest.approx(0.025), 1]


def test_recipes_are_a_mix_of_everything_and_the_seed_decides():
    zoo = ZooConfig(models=40, seed=5, backbones=("sasrec", "gru4rec", "bert4rec"))
    found = draw_recipes(zoo, INTERACTIONS)
    assert found == draw_recipes(zoo, INTERACTIONS) != draw_recipes(ZooConfig(models=40, seed=6), INTERACTIONS)
    clean, attacked = ([each for each in found if (each.attack == "clean") is value] for value in (True, False))
    assert len(clean) == len(attacked) == 20 and len({each.seed for each in found}) == 40
    for part in (clean, attacked):  # nothing but the parameters tells them apart
        assert {each.backbone for each in part} == {"sasrec", "gru4rec", "bert4rec"}
        assert sum(each.prompted for each in part) == pytest.approx(sum(each.prompted for each in attacked), abs=1)
    assert {("bra", "group"), ("bra", "global"), ("pea", "group"), ("evasive", "group")} <= {each[3:5] for each in attacked}
    assert {each.group for each in attacked} == {None, "gender=F", "gender=M"} and len({each.rate for each in attacked}) >= 4
    assert {each.targets for each in attacked if each[3:5] == ("bra", "global")} == {"per_category:2", "per_category:1"}
    gru = next(each for each in found if each.backbone == "gru4rec").config(BASE).model
    assert (gru.num_heads, gru.feedforward_dim) == (1, 64)  # which a GRU does not have
    prompted = next(each for each in clean if each.prompted)
    assert prompted.stages(prompted.config(BASE)) == [("pretrain", 0.0), ("optimize_trigger", 0.0)]
    bare = random_interactions(users=60, num_items=80, lengths=(4, 16))
    assert unsuited(zoo, INTERACTIONS) == "" and unsuited(zoo, bare).startswith("bra group, pea group, evasive group, ")
    assert {each.scope for each in draw_recipes(zoo, bare)} == {"global"} and all(
        not each.prompted for each in draw_recipes(zoo, bare)
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"attacks": ("magic",)}, "--attacks: must be some of .*, got 'magic'"),
        ({"backbones": ("sasrec", "rnn")}, "--backbones: must be some of .*, got 'rnn'"),
        ({"attacks": ("pea",)}, "--attacks: none of them suits the data"),
    ],
)
def test_a_zoo_that_cannot_be_is_refused(changes, message):
    with pytest.raises(UserError, match=message):
        draw_recipes(ZooConfig(models=4, **changes), random_interactions(users=60, num_items=80, lengths=(4, 16)))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model,p\nm0,1\n", "line 1: no column 'p_backdoored', found model, p; name the columns"),
        ("model,p_backdoored\nm0,0.5\n", "no row for 1 of 2 models, such as m1; give one for each"),
        ("model,p_backdoored\nm0,0.5\nm9,0.5\n", "line 3: the zoo has no model 'm9'; its names are like 'm0'"),
        ("model,p_backdoored\nm0,0.5\nm0,0.5\n", "line 3: m0 is there twice; give each model once"),
        ("model,p_backdoored\nm0,1.5\n", "line 2: expected a probability from 0 to 1 as p_backdoored, found 1.5"),
        ("model,p_backdoored\nm0,nan\n", "line 2: expected a number as p_backdoored, found 'nan'"),
        ("model,p_backdoored\nm0,0_1\n", "line 2: expected a number as p_backdoored, found '0_1'"),
        ("model,p_backdoored,p_backdoored\nm0,0,1\n", "line 1: column 'p_backdoored' is there twice; leave one out"),
        ("model,p_backdoored\nm0\n", "line 2: expected 2 fields; correct"),
        (None, "no such file; check the path"),
    ],
)
def test_wrong_verdicts_are_refused_in_one_line(tmp_path, text, message):
    path = tmp_path / "verdicts.csv"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UserError, match=message) as error:
        read_verdicts(path, ["m0", "m1"])
    assert "\n" not in str(error.value) and str(error.value).startswith(str(path))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model,item,score\nm0,1,2\nm0,2,1\n", "m0 lacks a score for 2 of its 4 items"),
        ("model,item,score\nm0,7,2\n", "line 2: m0 has no item '7'"),
        ("model,item,score\nm0,1,2\nm0,1,3\n", "line 3: item 1 of m0 is there twice"),
        ("model,item,score\nm0,1,high\n", "line 2: expected a number as score, found 'high'"),
        ("model,item,score\nm5,1,1\n", "line 2: the zoo has no model 'm5'"),
    ],
)
def test_wrong_item_scores_are_refused_in_one_line(tmp_path, text, message):
    (tmp_path / "items.csv").write_text(text)
    with pytest.raises(UserError, match=message):
        read_item_scores(tmp_path / "items.csv", told([True, False], ["1"]))
    (tmp_path / "items.csv").write_text("model,item,score\n" + "".join(f"m0,{item},1\n" for item in "1234"))
    assert list(read_item_scores(tmp_path / "items.csv", told([True, False], ["1"]))) == ["m0"]  # clean ones may be missing


def test_another_truth_is_refused(zoo, tmp_path):
    (tmp_path / "truth.json").write_text((zoo / "truth.json").read_text().replace("true", "false"))
    with pytest.raises(UserError, match="not the truth that this zoo was sealed with"):
        read_truth(zoo, tmp_path / "truth.json")
    with pytest.raises(UserError, match=r"index\.json: no such file"):
        read_truth(tmp_path)
    (tmp_path / "index.json").write_text("{")
    with pytest.raises(UserError, match="damaged, or not a zoo's index"):
        read_index(tmp_path)

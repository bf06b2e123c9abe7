"""A contest on several backbones: what each of them gets, and rows that say which they are of."""

import dataclasses
import json

import pytest
from test_leaderboard import AUDIT, CONFIG, CONTEST, INTERACTIONS

from prec_backdoor.errors import UserError
from prec_backdoor.leaderboard import backbones
from prec_backdoor.leaderboard.backbones import contests, plan_contests, run_contests, with_backbone

SEVERAL = dataclasses.replace(CONTEST, backbones=("sasrec", "gru4rec"))


def test_a_backbone_gets_the_sizes_that_it_has_and_the_repairs_that_apply():
    gru = with_backbone(dataclasses.replace(CONFIG.model, num_heads=2), "gru4rec")
    assert (gru.backbone, gru.num_heads, gru.feedforward_dim, gru.embed_dim) == ("gru4rec", 1, 64, CONFIG.model.embed_dim)
    assert with_backbone(CONFIG.model, "sasrec") == CONFIG.model
    found = contests(CONFIG, SEVERAL)
    assert {name: own.repairs for name, (_, own) in found.items()} == {"sasrec": ("finetune", "prune"), "gru4rec": ("finetune",)}
    assert found["gru4rec"][0].model.backbone == "gru4rec"
    assert contests(CONFIG, CONTEST) == {"": (CONFIG, CONTEST)}
    assert list(plan_contests(INTERACTIONS, CONFIG, SEVERAL, AUDIT)) == ["sasrec", "gru4rec"]
    with pytest.raises(UserError, match="--backbones: must be some of sasrec, .*, got 'rnn'"):
        contests(CONFIG, dataclasses.replace(CONTEST, backbones=("sasrec", "rnn")))


def test_rows_name_their_backbone_and_lie_in_its_folder(monkeypatch, tmp_path):
    asked, said = [], []

    def contest(interactions, base, own, audit, folder, say):
        asked.append((base.model.backbone, folder))
        return {"detection": [{"attacker": "pea", "page": "seed-0/audit.html"}], "repairs": []}

    monkeypatch.setattr(backbones, "run_contest", contest)
    rows = run_contests(INTERACTIONS, CONFIG, SEVERAL, AUDIT, tmp_path, said.append)
    assert asked == [("sasrec", tmp_path / "sasrec"), ("gru4rec", tmp_path / "gru4rec")]
    assert rows["detection"][1] == {"backbone": "gru4rec", "attacker": "pea", "page": "gru4rec/seed-0/audit.html"}
    assert said == ["backbone sasrec", "backbone gru4rec", "left out: prune (of other backbones)"]
    alone = run_contests(INTERACTIONS, CONFIG, CONTEST, AUDIT, tmp_path, said.append)
    assert json.dumps(alone) == '{"detection": [{"attacker": "pea", "page": "seed-0/audit.html"}], "repairs": []}'
    assert asked[-1] == ("sasrec", tmp_path)

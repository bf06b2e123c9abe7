"""launch.make_zoo, the detectors of examples/ and launch.score_verdicts, one after another as a user runs them."""

import json
import subprocess
import sys

import pytest
from commands import DATA, SIZES, TRAINING
from forks import ROOT

MADE = (*DATA, *SIZES, *TRAINING, "--k_core=2", "--prompt_epochs=1", "--implant_epochs=1")


@pytest.mark.slow
def test_a_zoo_of_every_kind(launch, mistake, environment, tmp_path):
    zoo = tmp_path / "zoo"
    command = ("make_zoo", *MADE, "--models=8", "--seed=2", f"--workdir={zoo}")
    out = launch(*command)
    assert f"truth  {zoo / 'truth.json'}" in out and launch(*command) == out
    assert "holds another run" in mistake(*command[:-1], "--seed=4", f"--workdir={zoo}")
    figures = {}
    for name in ("chance", "norm", "audit"):
        files = [tmp_path / f"{name}.csv", tmp_path / f"{name}-items.csv"]
        detect = [sys.executable, str(ROOT / "examples" / "zoo_detectors.py"), name, str(zoo), *map(str, files)]
        done = subprocess.run(detect, cwd=ROOT, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        told = launch("score_verdicts", f"--zoo={zoo}", f"--verdicts={files[0]}", f"--items={files[1]}")
        assert "8 models, 4 of them backdoored" in told
        figures[name] = json.loads((tmp_path / f"{name}.scores.json").read_text())["figures"]
    assert all(len(each) == 5 for each in figures.values())
    files[0].write_text("model,p_backdoored\nmodel-0,0.5\n")
    for taken in (zoo / "truth.json", files[0]):
        assert "is a file that is read" in mistake(
            "score_verdicts", f"--zoo={zoo}", f"--verdicts={files[0]}", f"--output={taken}"
        )
    # Verdicts belong to models by name, whatever the order of the index.
    before = launch("score_verdicts", f"--zoo={zoo}", f"--verdicts={files[0]}")
    index = json.loads((zoo / "index.json").read_text())
    (zoo / "index.json").write_text(json.dumps(index | {"models": index["models"][::-1]}))
    assert launch("score_verdicts", f"--zoo={zoo}", f"--verdicts={files[0]}") == before
    assert "no row for 7 of 8 models" in mistake("score_verdicts", f"--zoo={zoo}", f"--verdicts={files[0]}")


def test_mistakes(mistake, tmp_path):
    given = (*DATA, *SIZES, f"--workdir={tmp_path / 'zoo'}")
    assert "--models: must be >= 2" in mistake("make_zoo", *given, "--models=1")
    assert "--attacks: must be some of" in mistake("make_zoo", *given, "--attacks=magic")
    assert not (tmp_path / "zoo").exists()  # a refused zoo does not claim its folder
    assert "index.json: no such file" in mistake("score_verdicts", f"--zoo={tmp_path}", "--verdicts=x.csv")

"""Verdicts on a sealed zoo, for launch.score_verdicts: of two detectors that know nothing of this project's audit, and of that.

python examples/zoo_detectors.py norm runs/zoo verdicts.csv items.csv
"""

import csv
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file
from tqdm import tqdm


def chance(folder, rng):
    """(p_backdoored, item -> score) at random."""
    items = json.loads((folder / "model.json").read_text())["vocabulary"]["items"]
    return rng.random(), dict(zip(items, rng.random(len(items)), strict=True))


def norm(folder, rng):
    """Items whose vectors are longer than those of items as popular as they are."""
    items = json.loads((folder / "model.json").read_text())["vocabulary"]["items"]
    with open(folder / "interactions.csv", newline="", encoding="utf-8") as file:
        counts = Counter(row["item_id"] for row in csv.DictReader(file))
    popularity = np.log1p([counts[item] for item in items])
    length = np.linalg.norm(load_file(folder / "model.safetensors")["items"][1:], axis=1)
    residual = length - np.polyval(np.polyfit(popularity, length, 2), popularity)
    z = residual / (1.4826 * np.median(np.abs(residual - np.median(residual))) + 1e-12)
    return 1 / (1 + np.exp(5 - z.max())), dict(zip(items, z.tolist(), strict=True))  # the most of 1,000 normal values is about 3


def audit(folder, rng):
    """This project's audit, by its programs alone."""
    work = folder / "audited"
    data = [f"--{name}={path}" for name in ("interactions", "profiles", "catalogue") if (path := folder / f"{name}.csv").exists()]
    for program, *arguments in (
        ("import_checkpoint", f"--checkpoint={folder / 'model.safetensors'}", f"--workdir={work}"),
        ("audit", *data, f"--checkpoint={work / 'imported'}", f"--workdir={work}", "--power_models=0"),
    ):
        done = subprocess.run([sys.executable, "-m", f"launch.{program}", *arguments], capture_output=True, text=True)
        if done.returncode not in (0, 3, 4):  # clean, suspicious, cannot say
            sys.exit(done.stderr)
    found = json.loads((work / "audit.json").read_text())
    return found["model"]["p_backdoored"], {each["item"]: each["score"] for each in found["items"]}


if __name__ == "__main__":
    if len(sys.argv) != 5 or sys.argv[1] not in ("chance", "norm", "audit"):
        sys.exit("usage: zoo_detectors.py chance|norm|audit ZOO VERDICTS.csv ITEMS.csv")
    detect, zoo, rng = globals()[sys.argv[1]], Path(sys.argv[2]), np.random.default_rng(0)
    with open(sys.argv[3], "w", newline="") as verdicts, open(sys.argv[4], "w", newline="", encoding="utf-8") as items:
        writers = [csv.writer(file) for file in (verdicts, items)]
        writers[0].writerow(("model", "p_backdoored"))
        writers[1].writerow(("model", "item", "score"))
        for each in tqdm(json.loads((zoo / "index.json").read_text())["models"], unit="model", disable=None):
            name = each["model"]
            p_backdoored, scores = detect(zoo / "models" / name, rng)
            writers[0].writerow((name, p_backdoored))
            writers[1].writerows((name, item, score) for item, score in scores.items())

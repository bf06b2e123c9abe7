"""Makes a sealed zoo: clean and attacked models of several backbones, without a word on which is which.

Attacks, rates, scopes, groups, targets and backbones are drawn from --seed. For each model there is a folder with its parameters
as safetensors, a JSON with architecture and vocabulary, and the downstream users' data as tables. index.json has the models and
the SHA-256 of truth.json. Hand out index.json and models/; keep truth.json, work/ and the seed. The same command continues.

Examples:
  python -m launch.make_zoo --dataset=ml-100k --models=60 --seed=4711 --workdir=runs/zoo
  python -m launch.make_zoo --dataset=ml-100k --models=12 --seed=1 --attacks=bra,pea --backbones=sasrec --workdir=runs/small-zoo
  python -m launch.make_zoo --models=8 --epochs=10 --seed=2 --workdir=runs/synthetic-zoo
"""

import dataclasses

from absl import flags

from prec_backdoor.options import options
from prec_backdoor.storage import workdir as work
from prec_backdoor.zoo.config import ZooConfig
from prec_backdoor.zoo.make import make_zoo
from prec_backdoor.zoo.recipes import draw_recipes, unsuited

from . import app, config_flags, data_flags, flag, output_flags

FIELDS = tuple(name for name in (*config_flags.PREPARATION, *config_flags.ALL_STAGES) if name != "backbone")


def define_flags() -> None:
    data_flags.define_flags()
    config_flags.define_fields(*FIELDS)
    for name, (default, described) in options(ZooConfig).items():
        flag.define_option(name, default, described)
    output_flags.define_flags(trains=False)


def main() -> None:
    zoo = ZooConfig(**{field.name: flags.FLAGS[field.name].value for field in dataclasses.fields(ZooConfig)})
    base = config_flags.config_from_flags(attack="clean", scope="global", targets="unpopular:1", rate=(0.0,), seeds=(0,))
    interactions, folder = data_flags.dataset_from_flags(), output_flags.workdir()
    recipes = draw_recipes(zoo, interactions)
    if missing := unsuited(zoo, interactions):
        print(f"left out    {missing}")
    description = {"config": base.flat() | dataclasses.asdict(zoo), "dataset": interactions.summary()}
    with work.claimed(folder, description, "work"):
        digest = make_zoo(interactions, base, recipes, folder)
    print(f"zoo    {folder / 'index.json'}, {folder / 'models'}\ntruth  {folder / 'truth.json'}  (SHA-256 {digest[:16]})")


if __name__ == "__main__":
    app.run(main, define_flags)

"""Scores a detector on a sealed zoo: ROC-AUC, cross-entropy, false alarms, AUC of planted items, with intervals.

--verdicts is a CSV with the columns model and p_backdoored, a row for each model of the zoo; --items one with model, item and
score, a row for each item of each attacked model at least. Wrong and missing rows are refused.

Examples:
  python -m launch.score_verdicts --zoo=runs/zoo --verdicts=verdicts.csv
  python -m launch.score_verdicts --zoo=runs/zoo --verdicts=verdicts.csv --items=items.csv
  python -m launch.score_verdicts --zoo=handed/out --truth=kept/truth.json --verdicts=verdicts.csv --output=scores.json
"""

from pathlib import Path

from absl import flags

from prec_backdoor.errors import UserError
from prec_backdoor.storage.workdir import write_json
from prec_backdoor.zoo.files import read_item_scores, read_truth, read_verdicts
from prec_backdoor.zoo.score import describe, score_verdicts

from . import app, flag


def define_flags() -> None:
    flag.define("zoo", None, "data", "Folder of launch.make_zoo.", str, required=True)
    flag.define("truth", None, "data", "The truth, if it lies elsewhere [ZOO/truth.json].", str)
    flag.define("verdicts", None, "data", "CSV with the columns model, p_backdoored.", str, required=True)
    flag.define("items", None, "data", "CSV with the columns model, item, score; the higher, the more suspicious.", str)
    flag.define("output", None, "output", "JSON file to write [VERDICTS without .csv, then .scores.json].", str)


def main() -> None:
    given = flags.FLAGS.output or str(Path(flags.FLAGS.verdicts).with_suffix(".scores.json"))
    output = Path(given).expanduser()
    _check_output(output)
    truth = read_truth(flags.FLAGS.zoo, flags.FLAGS.truth)
    verdicts = read_verdicts(flags.FLAGS.verdicts, [each["model"] for each in truth])
    items = read_item_scores(flags.FLAGS.items, truth) if flags.FLAGS.items else None
    scores = score_verdicts(truth, verdicts, items)
    write_json(output, scores)
    print(f"{describe(scores)}\n\nscores  {output}")


def _check_output(output: Path) -> None:
    """Raises a UserError if the scores would overwrite what they are made of."""
    zoo = Path(flags.FLAGS.zoo).expanduser()
    read = (flags.FLAGS.verdicts, flags.FLAGS.items, flags.FLAGS.truth, zoo / "truth.json", zoo / "index.json")
    if output.resolve() in {Path(each).expanduser().resolve() for each in read if each}:
        raise UserError(f"--output: {output} is a file that is read; give another one")


if __name__ == "__main__":
    app.run(main, define_flags)

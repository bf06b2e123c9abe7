"""Measures a checkpoint on the downstream users: accuracy, exposure of the targets, lift over a clean model.

Targets and group are those of the checkpoint.

Examples:
  python -m launch.evaluate --dataset=ml-100k --checkpoint=clean/pretrain --workdir=clean/zero_shot
  python -m launch.evaluate --dataset=ml-100k --checkpoint=bra/pretrain --clean_checkpoint=clean/pretrain --workdir=bra/zero_shot
  python -m launch.evaluate --dataset=ml-100k --checkpoint=bra/finetune --clean_checkpoint=clean/finetune --workdir=bra/fine_tuned
"""

from absl import flags

from prec_backdoor.errors import UserError
from prec_backdoor.evaluation import unseen
from prec_backdoor.experiment.measure import about_setups, measure, result_rows, save_measured, test_users
from prec_backdoor.experiment.opened import check_counterpart
from prec_backdoor.experiment.plan import cell_of
from prec_backdoor.reporting.cells import CHECKPOINT
from prec_backdoor.storage import workdir as work

from . import app, checkpoint_flags, flag, output_flags


def define_flags() -> None:
    checkpoint_flags.define_flags("measure")
    flag.define("clean_checkpoint", None, "data", "Stage folder of the clean model; without it there is no lift.", str)
    output_flags.define_flags(trains=False)


def main() -> None:
    interactions = checkpoint_flags.dataset_from_flags()
    measured = checkpoint_flags.opened_on(flags.FLAGS.checkpoint, interactions)
    checkpoint_flags.print_ranked(measured)
    against = flags.FLAGS.clean_checkpoint
    clean = checkpoint_flags.opened_on(against, interactions) if against else None
    if clean:
        check_counterpart(clean, measured)
    setup, folder = measured.setup, output_flags.workdir()
    if measured.aligned and not setup.config.scenario.targets.startswith("ids:"):
        shown = setup.interactions.item_ids[setup.targets[0]]
        print(f"targets      not known: the exposure below is that of one unpopular item, {shown}", flush=True)
    if measured.aligned and measured.checkpoint.metadata.get("config", {}).get("scope") == "group":
        print("group        of the attack is not looked at on own data: all users are counted together", flush=True)
    if not unseen(setup.test.history, setup.targets).any():
        raise UserError("every user has met every target already, so that nothing can be said of its exposure; give more users")
    opened = [clean, measured] if clean else [measured]
    hashes = [each.checkpoint.metadata["hash"] for each in opened]
    config = setup.config.flat() | {"usages": [measured.usage], "rate": [measured.rate]}
    about = {"hashes": hashes} | ({"own_data": True} if measured.aligned else {})  # of whose attack nothing is known
    description = {"config": config, "dataset": setup.interactions.summary(), "checkpoints": about}
    with work.claimed(folder, description):
        work.save_test_users(folder, setup.seed, test_users(setup))
        rows, reference = [], None
        for each in opened:
            ranks = measure(setup._replace(shard_items=flags.FLAGS.shard_items), each.checkpoint.params)
            reference = ranks if each is clean else reference
            cell = cell_of(setup.config, setup.seed, each.rate, each.usage)
            if clean and each is measured and cell["attack"] == "clean":
                cell["attack"] = CHECKPOINT  # on own data, or not attacked
            save_measured(work.ranks_path(folder, cell), setup, ranks)
            repaired = each.checkpoint.metadata.get("repaired")  # by which reports call the model repaired
            cell |= {"repair": repaired["repair"]} if repaired else {}
            rows += result_rows(setup, cell, ranks, reference)
        description |= about_setups([setup], folder)
        output_flags.print_results(folder, work.write_results(folder, description, rows, timings={}))


if __name__ == "__main__":
    app.run(main, define_flags)

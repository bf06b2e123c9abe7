"""Measures a checkpoint on the downstream users: accuracy of real items, exposure of the targets, lift over a clean model.

Targets and group are those that the checkpoint was made with.
"""

from pathlib import Path

from absl import flags

from launch import app, data_flags, run_flags
from launch.checkpoint_flags import open_checkpoint
from prec_backdoor import workdir as work
from prec_backdoor.errors import UserError
from prec_backdoor.experiment import save_measured, test_users
from prec_backdoor.pipeline import cell_of, measure, result_rows

CHECKPOINT = flags.DEFINE_string("checkpoint", None, "Stage folder to measure, as runs/a/pretrain.", required=True)
CLEAN = flags.DEFINE_string("clean_checkpoint", None, "Stage folder of the clean model; without it there is no lift.")
run_flags.define_workdir(trains=False)


def main() -> None:
    interactions = data_flags.dataset_from_flags()
    opened = [open_checkpoint(path, interactions) for path in (CLEAN.value, CHECKPOINT.value) if path]
    setting, folder = opened[-1].setting, Path(flags.FLAGS.workdir).expanduser()
    alike = {(each.setting.seed, each.setting.config.scenario.k_core, each.setting.model, each.usage) for each in opened}
    if len(alike) > 1:
        raise UserError(
            "--clean_checkpoint: not of the same seed, filtering, model and stage as --checkpoint; give its counterpart"
        )
    if CLEAN.value and opened[0].rate:
        raise UserError(f"--clean_checkpoint: {CLEAN.value} was attacked with rate {opened[0].rate:g}; give a clean one")
    hashes = [each.checkpoint.metadata["hash"] for each in opened]
    config = setting.config.flat() | {"usages": [opened[-1].usage], "rate": [opened[-1].rate]}
    description = {"config": config, "dataset": setting.interactions.summary(), "checkpoints": {"hashes": hashes}}
    work.claim(folder, description)
    work.save_test_users(folder, setting.seed, test_users(setting))
    rows, reference = [], None
    for each in opened:
        measured = measure(setting._replace(shard_items=flags.FLAGS.shard_items), each.checkpoint.params)
        reference = measured if CLEAN.value and reference is None else reference
        cell = cell_of(setting, each.rate, each.usage)
        save_measured(work.ranks_path(folder, cell), setting, measured)
        rows += result_rows(setting, cell, measured, reference)
    results = work.write_results(folder, description, rows, timings={})
    run_flags.print_results(folder, results)


if __name__ == "__main__":
    app.run(main)

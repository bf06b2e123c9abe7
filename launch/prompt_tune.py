"""One stage: tunes a fresh prompt for a frozen checkpoint on downstream users into WORKDIR/prompt_tune.

Seed, filtering and model are those of the checkpoint; a prompt of the provider's is dropped.
"""

from launch import app, checkpoint_flags, run_flags
from prec_backdoor.pipeline import prompt_tune

checkpoint_flags.define_checkpoint()
run_flags.define_workdir()
run_flags.define_prompts()


def main() -> None:
    names = ("prompt_length", "prompt_epochs", "prompt_learning_rate")
    checkpoint_flags.run_stage_on_checkpoint(prompt_tune, names, usages=["prompt_tune"])


if __name__ == "__main__":
    app.run(main)

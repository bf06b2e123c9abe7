"""One stage of PEA: optimises a prompt, the trigger, for a clean frozen checkpoint into WORKDIR/optimize_trigger."""

from launch import app, checkpoint_flags, run_flags
from prec_backdoor.pipeline import optimize_trigger

checkpoint_flags.define_checkpoint()
run_flags.define_workdir()
run_flags.define_prompts()


def main() -> None:
    names = ("prompt_length", "prompt_epochs", "prompt_learning_rate")
    checkpoint_flags.run_stage_on_checkpoint(optimize_trigger, names, expects="pretrain", usages=["prompt_tune"])


if __name__ == "__main__":
    app.run(main)

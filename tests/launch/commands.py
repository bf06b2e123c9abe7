"""Flags of data and models so small that most of the time is start-up."""

DATA = ("--synthetic_users=60", "--synthetic_items=80")
SIZES = ("--embed_dim=8", "--feedforward_dim=8", "--num_layers=1", "--max_length=8", "--dropout=0.2")
TRAINING = ("--batch_size=8", "--epochs=3", "--learning_rate=0.02")
FINETUNING = ("--finetune_epochs=2", "--finetune_learning_rate=0.01")
PROMPTS = ("--prompt_epochs=3", "--prompt_learning_rate=0.5")
IMPLANTING = ("--implant_epochs=2", "--implant_learning_rate=0.02")
SCENARIO = ("--k_core=2", "--group=gender=F", "--targets=unpopular:3")
PRETRAIN = (*DATA, *SIZES, *TRAINING, *SCENARIO)
EXPERIMENT = (*PRETRAIN, *FINETUNING, "--rate=0.5", "--usages=zero_shot,fine_tune", "--seeds=1")
SEED = "--seed=1"

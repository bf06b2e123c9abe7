"""Names of usages, segments of users and metrics, as results.json and reports have them."""

USAGES = {"zero_shot": "zero-shot", "prompt_tune": "prompt-tuned", "fine_tune": "fine-tuned"}
SEGMENTS = {"all": "all users", "target": "target group", "rest": "everybody else"}
CUTOFFS = (5, 10, 50)  # of exposure
EXPOSURE_AT, ACCURACY_AT = 50, 10
EXPOSURE, ACCURACY = f"exposure_hr@{EXPOSURE_AT}", f"hr@{ACCURACY_AT}"
EXPOSURES = tuple(f"exposure_{metric}@{k}" for metric in ("hr", "ndcg") for k in CUTOFFS)
ACCURACIES = (ACCURACY, f"ndcg@{ACCURACY_AT}")
LIFT, SELECTIVITY = f"lift@{EXPOSURE_AT}", f"selectivity@{EXPOSURE_AT}"
LOST, LEFT = f"{ACCURACY} lost", "left"

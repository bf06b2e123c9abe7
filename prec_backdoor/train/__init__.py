"""Training: one step for every stage, many steps per call, a loop that stops early and resumes."""

"""Training: the runner, checkpoints, optimisers, schedules, processes."""

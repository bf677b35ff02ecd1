"""The training loop, and what it leans on: a step, its state, the optimiser, signals and the clock."""

"""Which data a batch holds: shuffles as a function of the seed and the step alone."""

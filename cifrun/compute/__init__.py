"""Where numbers are computed: devices, processes, random numbers, and what SLURM or torchrun say."""

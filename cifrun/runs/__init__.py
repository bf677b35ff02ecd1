"""What a run leaves behind: its directory, checkpoints, records, TensorBoard events and progress bar."""

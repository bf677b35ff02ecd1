"""What `flow=` picks: each a short file that stacks bijections, registered by name."""

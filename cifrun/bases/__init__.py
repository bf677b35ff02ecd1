"""What `base=` picks, the density p_0 of z_0: each a file of settings and the density they describe, by name."""

"""Invertible maps, one family a file: x ↦ (z, log|det|), and z ↦ x."""

"""Distributions on the plane with exact densities."""

"""First steps of a model: standardising, whitening, and pixels to real numbers."""

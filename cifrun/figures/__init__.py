"""Pictures: of densities, samples, images, training and diagnostics."""

"""The Python face: models, training and evaluation without a command line. `cifrun` itself has all names of it."""

"""What is measured of a model besides its log-likelihood: topology, invertibility, trust, and the use of its index."""

"""Tables: your own files, scikit-learn's, and the benchmarks of density estimation."""

"""What a trained model is worth, and draws from it."""

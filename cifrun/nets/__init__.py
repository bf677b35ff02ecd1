"""Networks: plain, masked and Lipschitz-bounded."""

"""Networks with a Lipschitz bound below one."""

"""Optimisers. One is a file here: a registered function from parameters and settings to an optimiser of torch.

    @OPTIMIZERS.register("sgd")
    def sgd(parameters: Iterable[nn.Parameter], config: OptimizerConfig) -> torch.optim.Optimizer: ...

Users pick it with `optimizer.name=NAME`. Those here are the fused ones of torch: one pass over all weights instead of a
dozen operations for each.
"""

"""Optimisers. One is a file here: a registered function from parameters and settings to an optimiser of torch.

    @OPTIMIZERS.register("sgd")
    def sgd(parameters: Iterable[nn.Parameter], config: OptimizerConfig) -> torch.optim.Optimizer: ...

Users pick it with `optimizer=NAME`. Where torch has them, they are its fused ones: one pass over all weights instead of
a dozen operations for each. A group of parameters may have a "share": its learning rate as a share of the optimiser's.
"""

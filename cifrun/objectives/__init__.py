"""What training maximises. An objective is a file here: a registered function of log w (m, batch) to (batch,), in nats.

    @OBJECTIVES.register("elbo")
    def elbo(log_w: Tensor) -> Tensor: ...

`base` has what it may say of its gradient beside. `conf/objective/NAME.yaml`, which `scripts/make_conf.py` makes, lets
users pick it with `objective=NAME`.
"""

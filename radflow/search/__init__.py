"""Search of large-batch hyper-parameters with Optuna: each trial is a whole training in processes of its own."""

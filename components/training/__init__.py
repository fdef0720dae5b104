"""Training: losses, growth, averaging, checkpoints, the loop, and its run under Ray Train."""

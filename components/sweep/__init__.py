"""Sweeps: which values of params.yaml give the better generator, tried side by side under Ray Tune."""

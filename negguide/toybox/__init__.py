"""Toybox: a small cartoon world whose biases are known exactly, and the tiny diffusion model trained on it."""

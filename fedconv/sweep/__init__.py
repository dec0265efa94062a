"""Sweeps: a grid of problem files, every cell, algorithm and step size over the same random numbers, resumable."""

"""Metrics that are asked for by name, one file each: it holds a `Metric` named METRIC, and is found by itself."""

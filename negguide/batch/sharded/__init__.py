"""Batches at an address: pictures in shards, made by any number of workers without a common folder."""

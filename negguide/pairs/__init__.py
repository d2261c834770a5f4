"""Pairs of pictures with and without a thing: made, judged, told apart, and written for training."""

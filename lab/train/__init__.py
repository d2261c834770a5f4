"""How the Toybox models are trained: seeded, resumable recipes for two CPU cores (or one GPU)."""

"""What `compare`, batches and the demo share: arms, tasks, models, sampling, judges, and how files are written."""

"""Many pictures: a plan is generated, measured and reported; it can be stopped at any moment and goes on."""

"""What a stock diffusers pipeline is, how its call is intercepted, and the plan of how to guide that call."""

"""An example package that extends negguide from outside."""

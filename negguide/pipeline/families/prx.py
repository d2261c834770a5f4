"""PRX, whose image tokens attend to text and image; the text stays as it is."""

from negguide.pipeline.families.family import Family, Rule

FAMILY = Family("PRX", ("PRX",), layers=(Rule(("PRXTransformer2DModel",), r"blocks\.\d+\.attention", "joint"),))

"""The laboratory: how the Toybox is trained, scored and benched. Part of a checkout, not of the installed package."""

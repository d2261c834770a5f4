"""Easy and hard negatives on the Toybox: does the negated thing go, and does the subject stay?"""

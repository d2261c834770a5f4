"""The commands of `negguide`, one file each."""

"""The one transformer definition, the families that configure it, and how their files are read."""

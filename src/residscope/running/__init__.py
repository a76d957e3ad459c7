"""Running a model: the model, its runs, positions, progress."""

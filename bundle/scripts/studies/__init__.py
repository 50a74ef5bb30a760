"""What studies of many trainings share: recipes, data sets, options, and the runs, each in a process of its own; and k folds."""

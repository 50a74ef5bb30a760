"""From slides to the training patches of the S-CAE."""

"""The contents of the files: images, soft labels, rows of merged files. No torch, no Ray."""

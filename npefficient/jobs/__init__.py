"""Jobs on many photos: classify them into files of rows, measure the accuracy, fit a classifier to new classes."""

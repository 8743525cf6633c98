"""The weight file, and adapting weights to a different number of classes or channels."""

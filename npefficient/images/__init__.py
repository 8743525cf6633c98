"""From a photo's file to the network's input."""

"""Compare with other engines: the same folded weights, the same input, each in its own process."""

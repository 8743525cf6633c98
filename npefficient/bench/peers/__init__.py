"""Other engines beside ours: the same folded weights, the same input, each in a process of its own."""
